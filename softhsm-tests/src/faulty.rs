//! A member whose PKCS#11 module does what a test says.

use crate::{
    cluster::TestCluster,
    program::{SHORT, wait_until},
};
use portcullis_faulty_module::{CONTROL_FILE, COUNTS_FILE, Control, Counts, DIRECTORY_VARIABLE, Function, Rule};
use std::{
    env, fs,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard},
};

/// The module that one member's workers load instead of SoftHSM2, which does the work behind it.
///
/// It is put in place before the gateway starts. Rules can be placed and removed at any time after that.
pub struct FaultyModule {
    directory: PathBuf,
    state: Mutex<State>,
}

/// A rule that was placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed(usize);

struct State {
    control: Control,
    next: usize,
}

impl FaultyModule {
    /// Puts the module in the place of a member's, without rules.
    pub fn install(cluster: &TestCluster, member: &str) -> Self {
        let directory = Self::directory(cluster, member);
        fs::create_dir(&directory).expect("a new directory for the faulty module");
        Counts::create(&directory.join(COUNTS_FILE)).expect("a file of counts");
        let mut real = None;
        cluster.edit_member(member, |settings| {
            let library = path_text(&Self::library());
            real = settings.insert("module".to_owned(), library.into());
            let environment = settings
                .entry("environment")
                .or_insert_with(|| toml::Table::new().into());
            let environment = environment.as_table_mut().expect("the member's environment");
            environment.insert(DIRECTORY_VARIABLE.to_owned(), path_text(&directory).into());
            // The counts are written, and a worker may be confined.
            if let Some(writable) = settings.get_mut("write_only_in") {
                let writable = writable.as_array_mut().expect("write_only_in is a list");
                writable.push(path_text(&directory).into());
            }
        });
        let module = real.expect("the member's module");
        let faulty = Self {
            directory,
            state: Mutex::new(State {
                control: Control {
                    module: module.as_str().expect("a path").to_owned(),
                    rule: Vec::new(),
                },
                next: 0,
            }),
        };
        faulty.write(&faulty.lock().control);
        faulty
    }

    /// The library, which lies beside the running test: cargo builds it with whatever depends on it.
    ///
    /// # Panics
    ///
    /// When it is not built.
    pub fn library() -> PathBuf {
        let test = env::current_exe().expect("the test's own path");
        // target/debug/deps/it-<hash> for tests, target/debug/<name> for programs.
        let places = test.ancestors().skip(1).take(1);
        let mut candidates = places.flat_map(|place| [place.join(LIBRARY), place.join("deps").join(LIBRARY)]);
        candidates.find(|path| path.is_file()).unwrap_or_else(|| {
            panic!(
                "{LIBRARY} is not built beside {}; run: cargo build -p portcullis-faulty-module",
                test.display()
            )
        })
    }

    /// The directory of a member's faulty module.
    pub fn directory(cluster: &TestCluster, member: &str) -> PathBuf {
        cluster.member_directory(member).join("faulty")
    }

    /// Lets a rule begin, after those that are there.
    pub fn place(&self, mut rule: Rule) -> Placed {
        let mut state = self.lock();
        rule.number = state.next;
        state.next += 1;
        state.control.rule.push(rule);
        self.write(&state.control);
        Placed(state.next - 1)
    }

    /// Lets a rule end.
    pub fn remove(&self, placed: Placed) {
        let mut state = self.lock();
        state.control.rule.retain(|rule| rule.number != placed.0);
        self.write(&state.control);
    }

    /// Lets all rules end.
    pub fn clear(&self) {
        let mut state = self.lock();
        state.control.rule.clear();
        self.write(&state.control);
    }

    /// What was counted so far, over all lives of the member's workers.
    pub fn counts(&self) -> Counts {
        Counts::read(&self.directory.join(COUNTS_FILE)).expect("the counts")
    }

    /// How often a function was called.
    pub fn calls(&self, function: Function) -> u64 {
        self.counts().calls(function)
    }

    /// How often a rule struck.
    pub fn strikes(&self, placed: Placed) -> u64 {
        self.counts().strikes(placed.0)
    }

    /// Waits until a rule has struck so often.
    #[track_caller]
    pub fn wait_for_strikes(&self, placed: Placed, times: u64) {
        wait_until(&format!("{times} strikes of {placed:?}"), SHORT, || {
            (self.strikes(placed) >= times).then_some(())
        });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|lock| lock.into_inner())
    }

    /// Writes the control file anew, in one step: the module looks at it with every call.
    fn write(&self, control: &Control) {
        let file = self.directory.join(CONTROL_FILE);
        let new = file.with_extension("new");
        fs::write(&new, toml::to_string(control).expect("rules in TOML")).expect("a new control file");
        fs::rename(&new, &file).expect("the control file in its place");
    }
}

/// The module behind a faulty one; `None` if the path names another.
pub(crate) fn module_behind(module: &Path, member_directory: &Path) -> Option<PathBuf> {
    if module.file_name()? != LIBRARY {
        return None;
    }
    let text = fs::read_to_string(member_directory.join("faulty").join(CONTROL_FILE)).expect("the control file");
    let control: Control = toml::from_str(&text).expect("the control file");
    Some(control.module.into())
}

fn path_text(path: &Path) -> String {
    path.to_str().expect("a path in UTF-8").to_owned()
}

const LIBRARY: &str = "libportcullis_faulty_module.so";
