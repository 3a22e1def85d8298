//! What pointers of a caller mean.

use crate::{
    error::{Error, Result},
    mechanism::{Mechanism, Parameters},
    output::Output,
    template::Template,
};
use cryptoki_sys::*;
use std::{ffi::c_void, ptr, slice};
use zeroize::Zeroizing;

/// Bytes that a caller gives. They are copied: its result may go to the same place.
///
/// # Safety
///
/// `data` is null, or points to `length` readable bytes.
pub(super) unsafe fn input(data: *const CK_BYTE, length: CK_ULONG) -> Result<Zeroizing<Vec<u8>>> {
    match (data.is_null(), length) {
        (_, 0) => Ok(Zeroizing::default()),
        (true, _) => Err(CKR_ARGUMENTS_BAD.into()),
        (false, length) => {
            let length = bounded(length)?;
            // SAFETY: not null, and so long by the caller's promise.
            let bytes = unsafe { slice::from_raw_parts(data, length) };
            Ok(Zeroizing::new(bytes.to_vec()))
        }
    }
}

/// Where a result of variable length goes.
///
/// # Safety
///
/// `length` is null or points to a number that nobody else uses; `data` is null or points to so many writable bytes that nobody
/// else uses.
pub(super) unsafe fn output<'a>(data: *mut CK_BYTE, length: *mut CK_ULONG) -> Result<Output<'a>> {
    // SAFETY: null or exclusive, by the caller's promise.
    let length = unsafe { length.as_mut() }.ok_or_else(|| Error::from(CKR_ARGUMENTS_BAD))?;
    let buffer = match data.is_null() {
        true => None,
        false => {
            let capacity = usize::try_from(*length).unwrap_or(usize::MAX).min(isize::MAX as usize);
            // SAFETY: not null, and so long by the caller's promise.
            Some(unsafe { slice::from_raw_parts_mut(data, capacity) })
        }
    };
    Ok(Output::new(buffer, length))
}

/// Where one thing goes.
///
/// # Safety
///
/// `place` is null or points to a writable place that nobody else uses.
pub(super) unsafe fn place<'a, T>(place: *mut T) -> Result<&'a mut T> {
    // SAFETY: null or exclusive, by the caller's promise.
    unsafe { place.as_mut() }.ok_or_else(|| CKR_ARGUMENTS_BAD.into())
}

/// Puts a list where a caller has room for `count` items, or tells how many there are.
///
/// # Safety
///
/// `count` is null or points to a number that nobody else uses; `items` is null or points to room for so many items.
pub(super) unsafe fn put_list<T: Copy>(list: &[T], items: *mut T, count: *mut CK_ULONG) -> Result<()> {
    // SAFETY: null or exclusive, by the caller's promise.
    let count = unsafe { place(count) }?;
    let room = std::mem::replace(count, list.len() as CK_ULONG);
    if items.is_null() {
        return Ok(());
    }
    if room < list.len() as CK_ULONG {
        return Err(CKR_BUFFER_TOO_SMALL.into());
    }
    // SAFETY: there is room for so many by the caller's promise, and the list is the module's own.
    unsafe { ptr::copy_nonoverlapping(list.as_ptr(), items, list.len()) };
    Ok(())
}

/// A template.
///
/// # Safety
///
/// `attributes` is null or points to `count` attributes, each of whose values is null or points to so many bytes as it says.
pub(super) unsafe fn template(attributes: *const CK_ATTRIBUTE, count: CK_ULONG) -> Result<Template> {
    if count > MOST_ATTRIBUTES {
        return Err(CKR_ARGUMENTS_BAD.into());
    }
    if attributes.is_null() && count > 0 {
        return Err(CKR_ARGUMENTS_BAD.into());
    }
    let mut owned = Vec::new();
    for at in 0..count as usize {
        // SAFETY: there are `count` attributes by the caller's promise.
        let attribute = unsafe { attributes.add(at).read() };
        let (kind, length) = (attribute.type_, attribute.ulValueLen);
        if length > MOST_VALUE {
            return Err(CKR_ATTRIBUTE_VALUE_INVALID.into());
        }
        // SAFETY: null or so many bytes, by the caller's promise.
        let value = unsafe { input(attribute.pValue.cast(), length) };
        owned.push((kind, value.map_err(|_| Error::from(CKR_ATTRIBUTE_VALUE_INVALID))?));
    }
    Template::new(owned)
}

/// A mechanism with the parameters that its number says.
///
/// # Safety
///
/// `mechanism` is null or points to a mechanism whose parameter is null or points to so many bytes as it says; where those are a
/// structure of the standard with pointers, these keep the same promise.
pub(super) unsafe fn mechanism(mechanism: *const CK_MECHANISM) -> Result<Mechanism> {
    if mechanism.is_null() {
        return Err(CKR_ARGUMENTS_BAD.into());
    }
    // SAFETY: not null, and a mechanism by the caller's promise.
    let CK_MECHANISM {
        mechanism: kind,
        pParameter: parameter,
        ulParameterLen: length,
    } = unsafe { mechanism.read() };
    if length > MOST_VALUE || (parameter.is_null() && length > 0) {
        return Err(CKR_MECHANISM_PARAM_INVALID.into());
    }
    let is_pss = matches!(
        kind,
        CKM_RSA_PKCS_PSS
            | CKM_SHA1_RSA_PKCS_PSS
            | CKM_SHA224_RSA_PKCS_PSS
            | CKM_SHA256_RSA_PKCS_PSS
            | CKM_SHA384_RSA_PKCS_PSS
            | CKM_SHA512_RSA_PKCS_PSS
    );
    let parameters = match kind {
        _ if is_pss => {
            // SAFETY: so many bytes by the caller's promise.
            let found: CK_RSA_PKCS_PSS_PARAMS = unsafe { structure(parameter, length) }?;
            Parameters::Pss {
                hash: found.hashAlg,
                mgf: found.mgf,
                salt: found.sLen,
            }
        }
        CKM_RSA_PKCS_OAEP => {
            // SAFETY: so many bytes by the caller's promise.
            let found: CK_RSA_PKCS_OAEP_PARAMS = unsafe { structure(parameter, length) }?;
            // SAFETY: the structure's own pointer and length.
            let label = unsafe { inner(found.pSourceData.cast(), found.ulSourceDataLen) }?;
            // Some callers leave the source at zero and give none.
            if found.source != CKZ_DATA_SPECIFIED && !(found.source == 0 && label.is_empty()) {
                return Err(CKR_MECHANISM_PARAM_INVALID.into());
            }
            Parameters::Oaep {
                hash: found.hashAlg,
                mgf: found.mgf,
                label,
            }
        }
        CKM_AES_CTR => {
            // SAFETY: so many bytes by the caller's promise.
            let found: CK_AES_CTR_PARAMS = unsafe { structure(parameter, length) }?;
            Parameters::Counter {
                bits: found.ulCounterBits,
                block: found.cb,
            }
        }
        CKM_AES_GCM => {
            // The field with the vector's length in bits was forgotten in the header of 2.40: callers have either structure.
            let found = match length as usize {
                length if length == size_of::<GcmWithoutBits>() => {
                    // SAFETY: so many bytes by the caller's promise.
                    unsafe { structure::<GcmWithoutBits>(parameter, length as CK_ULONG) }?
                }
                _ => {
                    // SAFETY: so many bytes by the caller's promise.
                    let found: CK_GCM_PARAMS = unsafe { structure(parameter, length) }?;
                    GcmWithoutBits {
                        iv: found.pIv,
                        iv_length: found.ulIvLen,
                        data: found.pAAD,
                        data_length: found.ulAADLen,
                        tag_bits: found.ulTagBits,
                    }
                }
            };
            Parameters::Gcm {
                // SAFETY: the structure's own pointer and length.
                nonce: unsafe { inner(found.iv, found.iv_length) }?,
                // SAFETY: the structure's own pointer and length.
                associated_data: unsafe { inner(found.data, found.data_length) }?,
                tag_bits: found.tag_bits,
            }
        }
        CKM_ECDH1_DERIVE => {
            // SAFETY: so many bytes by the caller's promise.
            let found: CK_ECDH1_DERIVE_PARAMS = unsafe { structure(parameter, length) }?;
            Parameters::Agreement {
                kdf: found.kdf,
                // SAFETY: the structure's own pointer and length.
                shared: unsafe { inner(found.pSharedData, found.ulSharedDataLen) }?,
                // SAFETY: the structure's own pointer and length.
                public: unsafe { inner(found.pPublicData, found.ulPublicDataLen) }?,
            }
        }
        CKM_SHA256_HMAC_GENERAL | CKM_SHA384_HMAC_GENERAL | CKM_SHA512_HMAC_GENERAL => {
            // SAFETY: so many bytes by the caller's promise.
            Parameters::Length(unsafe { structure(parameter, length) }?)
        }
        CKM_EDDSA if length as usize == size_of::<CK_EDDSA_PARAMS>() => {
            // SAFETY: so many bytes by the caller's promise.
            let found: CK_EDDSA_PARAMS = unsafe { structure(parameter, length) }?;
            match (found.phFlag, found.ulContextDataLen) {
                (CK_FALSE, 0) => Parameters::None,
                _ => return Err(CKR_MECHANISM_PARAM_INVALID.into()),
            }
        }
        _ if length == 0 => Parameters::None,
        // SAFETY: so many bytes by the caller's promise.
        _ => Parameters::Bytes(unsafe { inner(parameter.cast(), length) }?),
    };
    Ok(Mechanism { kind, parameters })
}

/// A mechanism with such parameters, as a caller would give it: the bytes of a structure, or its numbers where it has pointers too,
/// which then point to `inner`.
pub(crate) fn mechanism_of(kind: CK_MECHANISM_TYPE, parameter: &[u8], inner: [&[u8]; 2]) -> Result<Mechanism> {
    let (numbers, _) = parameter.as_chunks::<{ size_of::<CK_ULONG>() }>();
    let number = |at: usize| numbers.get(at).map_or(0, |bytes| CK_ULONG::from_ne_bytes(*bytes));
    let (pointers, lengths) = (
        inner.map(|one| one.as_ptr().cast_mut()),
        inner.map(|one| one.len() as CK_ULONG),
    );
    let oaep = CK_RSA_PKCS_OAEP_PARAMS {
        hashAlg: number(0),
        mgf: number(1),
        source: number(2),
        pSourceData: pointers[0].cast(),
        ulSourceDataLen: lengths[0],
    };
    let gcm = GcmWithoutBits {
        iv: pointers[0],
        iv_length: lengths[0],
        data: pointers[1],
        data_length: lengths[1],
        tag_bits: number(0),
    };
    let agreement = CK_ECDH1_DERIVE_PARAMS {
        kdf: number(0),
        ulSharedDataLen: lengths[0],
        pSharedData: pointers[0],
        ulPublicDataLen: lengths[1],
        pPublicData: pointers[1],
    };
    let (parameter, length) = match kind {
        CKM_RSA_PKCS_OAEP => (ptr::from_ref(&oaep).cast(), size_of_val(&oaep)),
        CKM_AES_GCM => (ptr::from_ref(&gcm).cast(), size_of_val(&gcm)),
        CKM_ECDH1_DERIVE => (ptr::from_ref(&agreement).cast(), size_of_val(&agreement)),
        _ => (parameter.as_ptr().cast::<c_void>(), parameter.len()),
    };
    let given = CK_MECHANISM {
        mechanism: kind,
        pParameter: parameter.cast_mut(),
        ulParameterLen: length as CK_ULONG,
    };
    // SAFETY: so many bytes. The structures of these three mechanisms alone are read with pointers, and theirs are to slices as long
    // as they say; all live through the call.
    unsafe { mechanism(&given) }
}

/// `CK_GCM_PARAMS` as some headers have it.
#[derive(Clone, Copy)]
#[repr(C)]
struct GcmWithoutBits {
    iv: *mut CK_BYTE,
    iv_length: CK_ULONG,
    data: *mut CK_BYTE,
    data_length: CK_ULONG,
    tag_bits: CK_ULONG,
}

/// A structure of the standard.
///
/// # Safety
///
/// `parameter` is null or points to `length` bytes.
unsafe fn structure<T: Copy>(parameter: *const c_void, length: CK_ULONG) -> Result<T> {
    if parameter.is_null() || length as usize != size_of::<T>() {
        return Err(CKR_MECHANISM_PARAM_INVALID.into());
    }
    // SAFETY: so many bytes by the caller's promise; it need not be aligned.
    Ok(unsafe { parameter.cast::<T>().read_unaligned() })
}

/// # Safety
///
/// As for [`input`].
unsafe fn inner(data: *const CK_BYTE, length: CK_ULONG) -> Result<Vec<u8>> {
    if length > MOST_VALUE {
        return Err(CKR_MECHANISM_PARAM_INVALID.into());
    }
    // SAFETY: the caller's promise is the same.
    let bytes = unsafe { input(data, length) };
    bytes
        .map(|bytes| bytes.to_vec())
        .map_err(|_| CKR_MECHANISM_PARAM_INVALID.into())
}

fn bounded(length: CK_ULONG) -> Result<usize> {
    let bounded = usize::try_from(length)
        .ok()
        .filter(|length| *length <= isize::MAX as usize);
    bounded.ok_or_else(|| CKR_ARGUMENTS_BAD.into())
}

/// More than any object has.
const MOST_ATTRIBUTES: CK_ULONG = 256;
/// More than any attribute or parameter of this module has: a certificate is at most 64 KiB long.
const MOST_VALUE: CK_ULONG = 1 << 20;
