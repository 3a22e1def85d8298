//! One operation in one session, as the best program without a gateway would do it: one call to begin, one to do it, into a
//! buffer of the right size.

use super::module::told;
use crate::{
    operation::{Kind, Operation},
    sample::Outcome,
    verify,
};
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use portcullis_hsm::{
    pkcs11::{CallMechanism, CallResult, ObjectHandle, Session},
    template,
};

/// An operation with its key and input.
pub(super) struct Use {
    key: ObjectHandle,
    work: Work,
}

enum Work {
    /// A signature or a code.
    Sign {
        mechanism: CallMechanism<'static>,
        input: Vec<u8>,
        capacity: usize,
    },
    /// Each encryption has a nonce of its own: drawn once, then counted, which costs nothing.
    Encrypt { plaintext: Vec<u8>, nonce: [u8; 12] },
}

impl Use {
    pub(super) fn new(operation: Operation, key: ObjectHandle) -> Result<Self, String> {
        let work = match operation.kind() {
            Kind::Sign(mechanism) => Work::Sign {
                mechanism: template::signing_call(mechanism),
                input: template::signing_input(mechanism, &verify::input(mechanism)),
                capacity: LONGEST_SIGNATURE,
            },
            Kind::Mac => Work::Sign {
                mechanism: CallMechanism::Plain(cryptoki_sys::CKM_SHA256_HMAC),
                input: verify::MESSAGE.to_vec(),
                capacity: 32,
            },
            Kind::Encrypt(length) => {
                let mut nonce = [0; 12];
                let drawn = SystemRandom::new().fill(&mut nonce[..8]);
                drawn.map_err(|_| "there are no random bytes".to_owned())?;
                Work::Encrypt {
                    plaintext: vec![7; length],
                    nonce,
                }
            }
            Kind::Create | Kind::Cold => return Err(format!("{operation} is not done directly")),
        };
        Ok(Self { key, work })
    }

    pub(super) fn perform(&mut self, session: &mut Session) -> CallResult<Vec<u8>> {
        match &mut self.work {
            Work::Sign {
                mechanism,
                input,
                capacity,
            } => session.sign(*mechanism, self.key, input, *capacity),
            Work::Encrypt { plaintext, nonce } => {
                count_up(nonce);
                let mechanism = CallMechanism::Gcm {
                    nonce,
                    associated_data: &[],
                };
                session.encrypt(mechanism, self.key, plaintext, GCM_TAG)
            }
        }
    }

    pub(super) fn outcome(&mut self, session: &mut Session) -> Outcome {
        Outcome::of_one(match self.perform(session) {
            Ok(_) => Ok(()),
            Err(error) => Err(told(error)),
        })
    }

    /// Has the token check what [`Self::perform`] made last with a secret key; signatures are checked in software.
    pub(super) fn check_with_token(&self, session: &mut Session, result: &[u8]) -> Result<(), String> {
        match &self.work {
            Work::Sign { mechanism, input, .. } => match mechanism {
                CallMechanism::Plain(cryptoki_sys::CKM_SHA256_HMAC) => {
                    session.verify(*mechanism, self.key, input, result).map_err(told)
                }
                _ => Ok(()),
            },
            Work::Encrypt { plaintext, nonce } => {
                let mechanism = CallMechanism::Gcm {
                    nonce,
                    associated_data: &[],
                };
                let decrypted = session.decrypt(mechanism, self.key, result).map_err(told)?;
                if *decrypted == *plaintext {
                    Ok(())
                } else {
                    Err("what was encrypted decrypts to something else".to_owned())
                }
            }
        }
    }
}

/// The last four bytes are a counter.
fn count_up(nonce: &mut [u8; 12]) {
    for byte in nonce[8..].iter_mut().rev() {
        *byte = byte.wrapping_add(1);
        if *byte != 0 {
            return;
        }
    }
}

/// RSA with 4096 bits.
const LONGEST_SIGNATURE: usize = 512;
const GCM_TAG: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_nonce_comes_twice() {
        let mut nonce = [7; 12];
        nonce[8..].copy_from_slice(&[0, 0, 0, 254]);
        let mut seen = std::collections::HashSet::from([nonce]);
        for _ in 0..600 {
            count_up(&mut nonce);
            assert!(seen.insert(nonce));
        }
        assert_eq!(nonce[..8], [7; 8]);
        assert_eq!(nonce[8..], [0, 0, 3, 86]);
    }
}
