use cryptoki_sys::{
    CK_AES_CTR_PARAMS, CK_ECDH1_DERIVE_PARAMS, CK_GCM_PARAMS, CK_MECHANISM, CK_MECHANISM_TYPE, CK_RSA_PKCS_MGF_TYPE,
    CK_RSA_PKCS_OAEP_PARAMS, CK_RSA_PKCS_PSS_PARAMS, CK_ULONG, CKD_NULL, CKM_AES_CTR, CKM_AES_GCM, CKM_ECDH1_DERIVE,
    CKM_RSA_PKCS_OAEP, CKM_RSA_PKCS_PSS, CKZ_DATA_SPECIFIED,
};
use std::{ffi::c_void, ptr};

/// A mechanism with its parameters, as one call takes it.
#[derive(Debug, Clone, Copy)]
pub enum CallMechanism<'a> {
    /// A mechanism without parameters.
    Plain(CK_MECHANISM_TYPE),
    /// A mechanism whose parameter is a byte string, such as an initialisation vector.
    Bytes(CK_MECHANISM_TYPE, &'a [u8]),
    /// AES-GCM (PKCS#11 3.0 section 6.13.3) with a 96-bit nonce and a 128-bit tag.
    Gcm {
        /// The nonce.
        nonce: &'a [u8; 12],
        /// The associated data.
        associated_data: &'a [u8],
    },
    /// RSASSA-PSS over a digest (section 6.1.11); salt in bytes.
    Pss {
        /// The digest's mechanism, such as `CKM_SHA256`.
        hash: CK_MECHANISM_TYPE,
        /// The mask generation function with the same hash.
        mask: CK_RSA_PKCS_MGF_TYPE,
        /// The salt's length.
        salt: usize,
    },
    /// RSAES-OAEP with an empty label (section 6.1.8).
    Oaep {
        /// The hash's mechanism.
        hash: CK_MECHANISM_TYPE,
        /// The mask generation function with the same hash.
        mask: CK_RSA_PKCS_MGF_TYPE,
    },
    /// AES in counter mode (section 6.13.5); all 128 bits of the block count.
    Ctr {
        /// The first counter block.
        counter: &'a [u8; 16],
    },
    /// Elliptic-curve Diffie-Hellman without a key derivation function (section 6.3.17).
    Ecdh {
        /// The peer's point, uncompressed (X9.62).
        peer_point: &'a [u8],
    },
}

impl CallMechanism<'_> {
    /// Lends the mechanism to `body` in the form that a C function expects.
    pub(crate) fn lend<R>(&self, body: impl FnOnce(*mut CK_MECHANISM) -> R) -> R {
        match *self {
            Self::Plain(kind) => body(&mut CK_MECHANISM {
                mechanism: kind,
                pParameter: ptr::null_mut(),
                ulParameterLen: 0,
            }),
            Self::Bytes(kind, bytes) => body(&mut CK_MECHANISM {
                mechanism: kind,
                pParameter: bytes.as_ptr().cast_mut().cast::<c_void>(),
                ulParameterLen: bytes.len() as CK_ULONG,
            }),
            Self::Gcm { nonce, associated_data } => {
                // A copy, because some modules write to the nonce.
                let mut nonce = *nonce;
                let mut parameters = CK_GCM_PARAMS {
                    pIv: nonce.as_mut_ptr(),
                    ulIvLen: nonce.len() as CK_ULONG,
                    ulIvBits: (nonce.len() * 8) as CK_ULONG,
                    pAAD: if associated_data.is_empty() {
                        ptr::null_mut()
                    } else {
                        associated_data.as_ptr().cast_mut()
                    },
                    ulAADLen: associated_data.len() as CK_ULONG,
                    ulTagBits: 128,
                };
                with_parameters(CKM_AES_GCM, &mut parameters, body)
            }
            Self::Pss { hash, mask, salt } => {
                let mut parameters = CK_RSA_PKCS_PSS_PARAMS {
                    hashAlg: hash,
                    mgf: mask,
                    sLen: salt as CK_ULONG,
                };
                with_parameters(CKM_RSA_PKCS_PSS, &mut parameters, body)
            }
            Self::Oaep { hash, mask } => {
                let mut parameters = CK_RSA_PKCS_OAEP_PARAMS {
                    hashAlg: hash,
                    mgf: mask,
                    source: CKZ_DATA_SPECIFIED,
                    pSourceData: ptr::null_mut(),
                    ulSourceDataLen: 0,
                };
                with_parameters(CKM_RSA_PKCS_OAEP, &mut parameters, body)
            }
            Self::Ctr { counter } => {
                let mut parameters = CK_AES_CTR_PARAMS {
                    ulCounterBits: 128,
                    cb: *counter,
                };
                with_parameters(CKM_AES_CTR, &mut parameters, body)
            }
            Self::Ecdh { peer_point } => {
                let mut parameters = CK_ECDH1_DERIVE_PARAMS {
                    kdf: CKD_NULL,
                    ulSharedDataLen: 0,
                    pSharedData: ptr::null_mut(),
                    ulPublicDataLen: peer_point.len() as CK_ULONG,
                    pPublicData: peer_point.as_ptr().cast_mut(),
                };
                with_parameters(CKM_ECDH1_DERIVE, &mut parameters, body)
            }
        }
    }
}

fn with_parameters<P, R>(
    mechanism: CK_MECHANISM_TYPE,
    parameters: &mut P,
    body: impl FnOnce(*mut CK_MECHANISM) -> R,
) -> R {
    body(&mut CK_MECHANISM {
        mechanism,
        pParameter: ptr::from_mut(parameters).cast::<c_void>(),
        ulParameterLen: size_of::<P>() as CK_ULONG,
    })
}
