use super::{CallMechanism, CallResult, Module, SlotId, Template, call};
use crate::return_code::Class;
use cryptoki_sys::{
    CK_ATTRIBUTE, CK_ATTRIBUTE_TYPE, CK_OBJECT_HANDLE, CK_SESSION_HANDLE, CK_SESSION_INFO, CK_ULONG,
    CK_UNAVAILABLE_INFORMATION, CKF_RW_SESSION, CKF_SERIAL_SESSION, CKU_SO, CKU_USER,
};
use secrecy::{ExposeSecret, SecretSlice};
use std::{cell::Cell, marker::PhantomData, mem::MaybeUninit, ptr, sync::Arc};
use zeroize::Zeroizing;

/// An object as one process sees it, for as long as it lives there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ObjectHandle(CK_OBJECT_HANDLE);

/// Whether a session may write token objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionKind {
    /// Reads token objects; session objects of its own are still possible.
    ReadOnly,
    /// Also creates and destroys token objects.
    ReadWrite,
}

/// Who logs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserType {
    /// The security officer, who sets the user's PIN.
    SecurityOfficer,
    /// The normal user, who uses keys.
    User,
}

/// An open session. It closes when it is dropped, and its session objects go with it.
///
/// A session does one thing at a time, so each operation takes `&mut self`. After any error it may be left with an
/// operation that PKCS#11 2.40 cannot cancel: drop it and open another.
#[derive(Debug)]
pub struct Session {
    module: Arc<Module>,
    slot: SlotId,
    handle: CK_SESSION_HANDLE,
    // Not `Sync`: two threads must not be in calls on one session.
    _one_thread_at_a_time: PhantomData<Cell<()>>,
}

impl Session {
    /// Opens a session on a slot's token. Login state is shared by all sessions of the process on that token.
    pub fn open(module: &Arc<Module>, slot: SlotId, kind: SessionKind) -> CallResult<Self> {
        let flags = CKF_SERIAL_SESSION
            | match kind {
                SessionKind::ReadOnly => 0,
                SessionKind::ReadWrite => CKF_RW_SESSION,
            };
        let mut handle: CK_SESSION_HANDLE = 0;
        // SAFETY: no callback and no application pointer; the handle is written on success.
        unsafe { call!(module, C_OpenSession(slot.0, flags, ptr::null_mut(), None, &mut handle)) }?;
        Ok(Self {
            module: Arc::clone(module),
            slot,
            handle,
            _one_thread_at_a_time: PhantomData,
        })
    }

    /// The module that the session belongs to.
    pub fn module(&self) -> &Arc<Module> {
        &self.module
    }

    /// The slot whose token the session is on.
    pub fn slot(&self) -> SlotId {
        self.slot
    }

    /// Whether the token still knows the session.
    pub fn is_open(&mut self) -> CallResult<bool> {
        let mut info = MaybeUninit::<CK_SESSION_INFO>::zeroed();
        // SAFETY: the call fills the structure, which nobody reads.
        let asked = unsafe { call!(self.module, C_GetSessionInfo(self.handle, info.as_mut_ptr())) };
        match asked {
            Ok(()) => Ok(true),
            Err(error) if error.code.class() == Class::SessionLost => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Logs the whole process in to the token. Never repeat it after `CKR_PIN_INCORRECT`: tokens lock.
    pub fn login(&mut self, user: UserType, pin: &SecretSlice<u8>) -> CallResult<()> {
        let user = match user {
            UserType::SecurityOfficer => CKU_SO,
            UserType::User => CKU_USER,
        };
        let pin = pin.expose_secret();
        // SAFETY: the PIN is only read during the call.
        unsafe {
            call!(
                self.module,
                C_Login(self.handle, user, pin.as_ptr().cast_mut(), pin.len() as CK_ULONG)
            )
        }
    }

    /// Logs the whole process out of the token: every other session loses its private objects too.
    pub fn logout(&mut self) -> CallResult<()> {
        // SAFETY: takes the handle alone.
        unsafe { call!(self.module, C_Logout(self.handle)) }
    }

    /// Sets the user's PIN; the session is the security officer's.
    pub fn init_pin(&mut self, pin: &SecretSlice<u8>) -> CallResult<()> {
        let pin = pin.expose_secret();
        // SAFETY: the PIN is only read during the call.
        unsafe {
            call!(
                self.module,
                C_InitPIN(self.handle, pin.as_ptr().cast_mut(), pin.len() as CK_ULONG)
            )
        }
    }

    /// Changes the PIN of the user who is logged in, or of the normal user where nobody is; the session is read-write.
    pub fn set_pin(&mut self, old: &SecretSlice<u8>, new: &SecretSlice<u8>) -> CallResult<()> {
        let (old, new) = (old.expose_secret(), new.expose_secret());
        // SAFETY: the PINs are only read during the call.
        unsafe {
            call!(
                self.module,
                C_SetPIN(
                    self.handle,
                    old.as_ptr().cast_mut(),
                    old.len() as CK_ULONG,
                    new.as_ptr().cast_mut(),
                    new.len() as CK_ULONG
                )
            )
        }
    }

    /// Generates a secret key.
    pub fn generate_key(&mut self, mechanism: CallMechanism<'_>, template: &Template) -> CallResult<ObjectHandle> {
        let mut key: CK_OBJECT_HANDLE = 0;
        mechanism.lend(|mechanism| {
            template.lend(|attributes, count| {
                // SAFETY: mechanism and template are lent for the call; the handle is written on success.
                unsafe {
                    call!(
                        self.module,
                        C_GenerateKey(self.handle, mechanism, attributes, count, &mut key)
                    )
                }
            })
        })?;
        Ok(ObjectHandle(key))
    }

    /// Generates a key pair; returns the public and the private key.
    pub fn generate_key_pair(
        &mut self,
        mechanism: CallMechanism<'_>,
        public: &Template,
        private: &Template,
    ) -> CallResult<(ObjectHandle, ObjectHandle)> {
        let mut public_key: CK_OBJECT_HANDLE = 0;
        let mut private_key: CK_OBJECT_HANDLE = 0;
        mechanism.lend(|mechanism| {
            public.lend(|public, public_count| {
                private.lend(|private, private_count| {
                    // SAFETY: mechanism and templates are lent for the call; the handles are written on success.
                    unsafe {
                        call!(
                            self.module,
                            C_GenerateKeyPair(
                                self.handle,
                                mechanism,
                                public,
                                public_count,
                                private,
                                private_count,
                                &mut public_key,
                                &mut private_key,
                            )
                        )
                    }
                })
            })
        })?;
        Ok((ObjectHandle(public_key), ObjectHandle(private_key)))
    }

    /// Creates an object from values.
    pub fn create_object(&mut self, template: &Template) -> CallResult<ObjectHandle> {
        let mut object: CK_OBJECT_HANDLE = 0;
        template.lend(|attributes, count| {
            // SAFETY: the template is lent for the call; the handle is written on success.
            unsafe { call!(self.module, C_CreateObject(self.handle, attributes, count, &mut object)) }
        })?;
        Ok(ObjectHandle(object))
    }

    /// Copies an object, with the template's attributes changed.
    pub fn copy_object(&mut self, object: ObjectHandle, template: &Template) -> CallResult<ObjectHandle> {
        let mut copy: CK_OBJECT_HANDLE = 0;
        template.lend(|attributes, count| {
            // SAFETY: the template is lent for the call; the handle is written on success.
            unsafe {
                call!(
                    self.module,
                    C_CopyObject(self.handle, object.0, attributes, count, &mut copy)
                )
            }
        })?;
        Ok(ObjectHandle(copy))
    }

    /// Destroys an object.
    pub fn destroy_object(&mut self, object: ObjectHandle) -> CallResult<()> {
        // SAFETY: takes handles alone.
        unsafe { call!(self.module, C_DestroyObject(self.handle, object.0)) }
    }

    /// Changes attributes of an object.
    pub fn set_attributes(&mut self, object: ObjectHandle, template: &Template) -> CallResult<()> {
        template.lend(|attributes, count| {
            // SAFETY: the template is lent for the call.
            unsafe {
                call!(
                    self.module,
                    C_SetAttributeValue(self.handle, object.0, attributes, count)
                )
            }
        })
    }

    /// Reads one attribute of at most `capacity` bytes.
    ///
    /// # Errors
    ///
    /// `CKR_ATTRIBUTE_SENSITIVE` and `CKR_ATTRIBUTE_TYPE_INVALID` as the module says. A module that answers
    /// `CKR_OK` and marks the value as unavailable is reported as `CKR_ATTRIBUTE_SENSITIVE`.
    pub fn attribute(&mut self, object: ObjectHandle, kind: CK_ATTRIBUTE_TYPE, capacity: usize) -> CallResult<Vec<u8>> {
        let mut value = vec![0u8; capacity];
        let mut attribute = CK_ATTRIBUTE {
            type_: kind,
            pValue: value.as_mut_ptr().cast(),
            ulValueLen: capacity as CK_ULONG,
        };
        // SAFETY: the attribute points to `capacity` writable bytes that live during the call.
        unsafe {
            call!(
                self.module,
                C_GetAttributeValue(self.handle, object.0, &mut attribute, 1)
            )
        }?;
        if attribute.ulValueLen == CK_UNAVAILABLE_INFORMATION {
            return Err(super::CallError {
                function: "C_GetAttributeValue",
                code: crate::return_code::ReturnCode::ATTRIBUTE_SENSITIVE,
            });
        }
        value.truncate(attribute.ulValueLen as usize);
        Ok(value)
    }

    /// Finds at most `limit` objects that match all attributes of the template.
    pub fn find_objects(&mut self, template: &Template, limit: usize) -> CallResult<Vec<ObjectHandle>> {
        template.lend(|attributes, count| {
            // SAFETY: the template is lent for the call.
            unsafe { call!(self.module, C_FindObjectsInit(self.handle, attributes, count)) }
        })?;
        let mut found: Vec<CK_OBJECT_HANDLE> = vec![0; limit];
        let mut count: CK_ULONG = 0;
        // SAFETY: `found` has room for `limit` handles, and the call writes at most as many.
        let search = unsafe {
            call!(
                self.module,
                C_FindObjects(self.handle, found.as_mut_ptr(), limit as CK_ULONG, &mut count)
            )
        };
        // SAFETY: takes the handle alone.
        let end = unsafe { call!(self.module, C_FindObjectsFinal(self.handle)) };
        search.and(end)?;
        found.truncate(count as usize);
        Ok(found.into_iter().map(ObjectHandle).collect())
    }

    /// Wraps a key under another; the result has at most `capacity` bytes.
    pub fn wrap_key(
        &mut self,
        mechanism: CallMechanism<'_>,
        wrapping_key: ObjectHandle,
        key: ObjectHandle,
        capacity: usize,
    ) -> CallResult<Vec<u8>> {
        let mut wrapped = vec![0u8; capacity];
        let mut length = capacity as CK_ULONG;
        mechanism.lend(|mechanism| {
            // SAFETY: the mechanism is lent for the call; `wrapped` has `length` writable bytes.
            unsafe {
                call!(
                    self.module,
                    C_WrapKey(
                        self.handle,
                        mechanism,
                        wrapping_key.0,
                        key.0,
                        wrapped.as_mut_ptr(),
                        &mut length
                    )
                )
            }
        })?;
        wrapped.truncate(length as usize);
        Ok(wrapped)
    }

    /// Unwraps a key; the template decides what the new object is and may do.
    pub fn unwrap_key(
        &mut self,
        mechanism: CallMechanism<'_>,
        unwrapping_key: ObjectHandle,
        wrapped: &[u8],
        template: &Template,
    ) -> CallResult<ObjectHandle> {
        let mut key: CK_OBJECT_HANDLE = 0;
        mechanism.lend(|mechanism| {
            template.lend(|attributes, count| {
                // SAFETY: mechanism and template are lent for the call, the wrapped bytes are only read, and the handle
                // is written on success.
                unsafe {
                    call!(
                        self.module,
                        C_UnwrapKey(
                            self.handle,
                            mechanism,
                            unwrapping_key.0,
                            wrapped.as_ptr().cast_mut(),
                            wrapped.len() as CK_ULONG,
                            attributes,
                            count,
                            &mut key,
                        )
                    )
                }
            })
        })?;
        Ok(ObjectHandle(key))
    }

    /// Signs or MACs `data` in one go; the result has at most `capacity` bytes.
    pub fn sign(
        &mut self,
        mechanism: CallMechanism<'_>,
        key: ObjectHandle,
        data: &[u8],
        capacity: usize,
    ) -> CallResult<Vec<u8>> {
        mechanism.lend(|mechanism| {
            // SAFETY: the mechanism is lent for the call.
            unsafe { call!(self.module, C_SignInit(self.handle, mechanism, key.0)) }
        })?;
        let mut signature = vec![0u8; capacity];
        let mut length = capacity as CK_ULONG;
        // SAFETY: `data` is only read; `signature` has `length` writable bytes.
        unsafe {
            call!(
                self.module,
                C_Sign(
                    self.handle,
                    data.as_ptr().cast_mut(),
                    data.len() as CK_ULONG,
                    signature.as_mut_ptr(),
                    &mut length
                )
            )
        }?;
        signature.truncate(length as usize);
        Ok(signature)
    }

    /// Checks a signature or MAC in one go. A wrong one is the error `CKR_SIGNATURE_INVALID` or `CKR_SIGNATURE_LEN_RANGE`.
    pub fn verify(
        &mut self,
        mechanism: CallMechanism<'_>,
        key: ObjectHandle,
        data: &[u8],
        signature: &[u8],
    ) -> CallResult<()> {
        mechanism.lend(|mechanism| {
            // SAFETY: the mechanism is lent for the call.
            unsafe { call!(self.module, C_VerifyInit(self.handle, mechanism, key.0)) }
        })?;
        // SAFETY: `data` and `signature` are only read.
        unsafe {
            call!(
                self.module,
                C_Verify(
                    self.handle,
                    data.as_ptr().cast_mut(),
                    data.len() as CK_ULONG,
                    signature.as_ptr().cast_mut(),
                    signature.len() as CK_ULONG
                )
            )
        }
    }

    /// Asks whether the module would encrypt so with a key. The operation is left open: drop the session.
    pub fn begin_encryption(&mut self, mechanism: CallMechanism<'_>, key: ObjectHandle) -> CallResult<()> {
        mechanism.lend(|mechanism| {
            // SAFETY: the mechanism is lent for the call. Nothing follows that could read what the module may have kept.
            unsafe { call!(self.module, C_EncryptInit(self.handle, mechanism, key.0)) }
        })
    }

    /// Encrypts `data` in one go; the result is at most `overhead` bytes longer.
    pub fn encrypt(
        &mut self,
        mechanism: CallMechanism<'_>,
        key: ObjectHandle,
        data: &[u8],
        overhead: usize,
    ) -> CallResult<Vec<u8>> {
        let mut output = vec![0u8; data.len() + overhead];
        let mut length = output.len() as CK_ULONG;
        mechanism.lend(|mechanism| {
            // The parameters (a nonce, associated data) must live from Init to the end of the operation: some modules
            // keep the pointers.
            // SAFETY: the mechanism is lent for both calls; `data` is only read; `output` has `length` writable bytes.
            unsafe {
                call!(self.module, C_EncryptInit(self.handle, mechanism, key.0))?;
                call!(
                    self.module,
                    C_Encrypt(
                        self.handle,
                        data.as_ptr().cast_mut(),
                        data.len() as CK_ULONG,
                        output.as_mut_ptr(),
                        &mut length
                    )
                )
            }
        })?;
        output.truncate(length as usize);
        Ok(output)
    }

    /// Decrypts `data` in one go; the result is at most as long, and is wiped when dropped.
    pub fn decrypt(
        &mut self,
        mechanism: CallMechanism<'_>,
        key: ObjectHandle,
        data: &[u8],
    ) -> CallResult<Zeroizing<Vec<u8>>> {
        let mut output = Zeroizing::new(vec![0u8; data.len()]);
        let mut length = output.len() as CK_ULONG;
        mechanism.lend(|mechanism| {
            // SAFETY: as in `encrypt`.
            unsafe {
                call!(self.module, C_DecryptInit(self.handle, mechanism, key.0))?;
                call!(
                    self.module,
                    C_Decrypt(
                        self.handle,
                        data.as_ptr().cast_mut(),
                        data.len() as CK_ULONG,
                        output.as_mut_ptr(),
                        &mut length
                    )
                )
            }
        })?;
        output.truncate(length as usize);
        Ok(output)
    }

    /// The digest of a secret key's value. Some tokens do this for sensitive keys too, others for none.
    pub fn digest_key(
        &mut self,
        mechanism: CallMechanism<'_>,
        key: ObjectHandle,
        capacity: usize,
    ) -> CallResult<Vec<u8>> {
        let mut digest = vec![0u8; capacity];
        let mut length = capacity as CK_ULONG;
        // SAFETY: the mechanism is lent for the call.
        mechanism.lend(|mechanism| unsafe { call!(self.module, C_DigestInit(self.handle, mechanism)) })?;
        // SAFETY: takes handles alone.
        unsafe { call!(self.module, C_DigestKey(self.handle, key.0)) }?;
        // SAFETY: `digest` has `length` writable bytes.
        unsafe {
            call!(
                self.module,
                C_DigestFinal(self.handle, digest.as_mut_ptr(), &mut length)
            )
        }?;
        digest.truncate(length as usize);
        Ok(digest)
    }

    /// Derives a key.
    pub fn derive_key(
        &mut self,
        mechanism: CallMechanism<'_>,
        base: ObjectHandle,
        template: &Template,
    ) -> CallResult<ObjectHandle> {
        let mut key: CK_OBJECT_HANDLE = 0;
        mechanism.lend(|mechanism| {
            template.lend(|attributes, count| {
                // SAFETY: mechanism and template are lent for the call; the handle is written on success.
                unsafe {
                    call!(
                        self.module,
                        C_DeriveKey(self.handle, mechanism, base.0, attributes, count, &mut key)
                    )
                }
            })
        })?;
        Ok(ObjectHandle(key))
    }

    /// Fills a buffer from the token's random generator.
    pub fn generate_random(&mut self, buffer: &mut [u8]) -> CallResult<()> {
        // SAFETY: the buffer is writable for its length.
        unsafe {
            call!(
                self.module,
                C_GenerateRandom(self.handle, buffer.as_mut_ptr(), buffer.len() as CK_ULONG)
            )
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // SAFETY: takes the handle alone, which is not used again.
        let outcome = unsafe { call!(self.module, C_CloseSession(self.handle)) };
        if let Err(error) = outcome {
            tracing::debug!(%error, "a session did not close");
        }
    }
}
