//! The object handles that callers are given instead of the real ones.

use cryptoki_sys::CK_OBJECT_HANDLE;
use std::collections::{BTreeMap, HashMap};

/// Which handle stands for which object. A handle is never given twice for different objects, except on purpose.
#[derive(Debug, Default)]
pub(crate) struct Handles {
    given: CK_OBJECT_HANDLE,
    real: BTreeMap<CK_OBJECT_HANDLE, CK_OBJECT_HANDLE>,
    stand_ins: HashMap<CK_OBJECT_HANDLE, CK_OBJECT_HANDLE>,
}

impl Handles {
    /// What stands for an object.
    pub(crate) fn stand_in(&mut self, real: CK_OBJECT_HANDLE) -> CK_OBJECT_HANDLE {
        if let Some(handle) = self.stand_ins.get(&real) {
            return *handle;
        }
        self.given += 1;
        // Far from the numbers that a module begins with, so that a handle that was not translated is noticed.
        let handle = FIRST + self.given;
        self.real.insert(handle, real);
        self.stand_ins.insert(real, handle);
        handle
    }

    /// The object that a handle stands for; `CK_INVALID_HANDLE` for none, to which the real module has an answer.
    pub(crate) fn real(&self, handle: CK_OBJECT_HANDLE) -> CK_OBJECT_HANDLE {
        self.real
            .get(&handle)
            .copied()
            .unwrap_or(cryptoki_sys::CK_INVALID_HANDLE)
    }

    /// An object is gone.
    pub(crate) fn remove(&mut self, real: CK_OBJECT_HANDLE) {
        if let Some(handle) = self.stand_ins.remove(&real) {
            self.real.remove(&handle);
        }
    }

    /// No handle stands for anything any more. None is given again.
    pub(crate) fn lose(&mut self) {
        self.real.clear();
        self.stand_ins.clear();
    }

    /// Lets each handle stand for the next object of its kind, where `kind` tells one.
    pub(crate) fn swap<K: Ord>(&mut self, kind: impl Fn(CK_OBJECT_HANDLE) -> Option<K>) {
        let mut kinds: BTreeMap<K, Vec<CK_OBJECT_HANDLE>> = BTreeMap::new();
        for (handle, real) in &self.real {
            if let Some(kind) = kind(*real) {
                kinds.entry(kind).or_default().push(*handle);
            }
        }
        for handles in kinds.values() {
            let mut objects: Vec<_> = handles.iter().map(|handle| self.real(*handle)).collect();
            objects.rotate_left(1);
            for (handle, real) in handles.iter().zip(objects) {
                self.real.insert(*handle, real);
                self.stand_ins.insert(real, *handle);
            }
        }
    }
}

const FIRST: CK_OBJECT_HANDLE = 0x10_0000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_keeps_its_stand_in_until_handles_are_lost() {
        let mut handles = Handles::default();
        let (first, second) = (handles.stand_in(1), handles.stand_in(2));
        assert_ne!(first, second);
        assert_eq!(handles.stand_in(1), first);
        assert_eq!((handles.real(first), handles.real(second)), (1, 2));
        handles.lose();
        assert_eq!(handles.real(first), 0);
        assert!(![first, second].contains(&handles.stand_in(1)));
    }

    #[test]
    fn swapped_handles_stand_for_other_objects_of_their_kind() {
        let mut handles = Handles::default();
        let given: Vec<_> = (1..=6).map(|real| handles.stand_in(real)).collect();
        // 1, 3 and 5 are of one kind, 2 is alone in its own, 4 and 6 are not asked for.
        handles.swap(|real| match real {
            1 | 3 | 5 => Some("odd"),
            2 => Some("two"),
            _ => None,
        });
        let now: Vec<_> = given.iter().map(|handle| handles.real(*handle)).collect();
        assert_eq!(now, [3, 2, 5, 4, 1, 6]);
        assert_eq!(handles.stand_in(3), given[0]);
    }

    #[test]
    fn a_handle_of_a_destroyed_object_is_not_given_again() {
        let mut handles = Handles::default();
        let first = handles.stand_in(1);
        handles.remove(1);
        assert_eq!(handles.real(first), 0);
        assert_ne!(handles.stand_in(1), first);
    }
}
