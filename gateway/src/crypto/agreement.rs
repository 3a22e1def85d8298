//! Peers of a key agreement: a point that is not on the curve must not reach a private key, because what comes back would give
//! the key away piece by piece (SP 800-56A section 5.6.2.3).

use aws_lc_rs::agreement::{self, Algorithm, ParsedPublicKey, ParsedPublicKeyFormat, UnparsedPublicKey};
use der::Decode;
use portcullis_hsm::{algorithm::KeyType, public_key::curve_parameters};
use spki::SubjectPublicKeyInfoRef;

/// Why a peer's public key cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// It is not DER of a public key.
    #[error("expected a SubjectPublicKeyInfo in DER")]
    Malformed,
    /// It is of another kind or curve.
    #[error("expected a public key on the curve of {0}")]
    OtherCurve(KeyType),
    /// The point is compressed, at infinity, too long or short, or not on the curve.
    #[error("expected an uncompressed point on the curve of {0}")]
    Point(KeyType),
}

/// The uncompressed point of a peer's public key (SubjectPublicKeyInfo in DER), which is on the key's curve and not at infinity.
pub fn peer_point(key_type: KeyType, public_key: &[u8]) -> Result<Vec<u8>, PeerError> {
    let info = SubjectPublicKeyInfoRef::from_der(public_key).map_err(|_| PeerError::Malformed)?;
    let curve = info
        .algorithm
        .parameters_oid()
        .ok()
        .filter(|_| info.algorithm.oid == EC_PUBLIC_KEY);
    let expected = curve_parameters(key_type).and_then(|der| spki::ObjectIdentifier::from_der(&der).ok());
    if curve.is_none() || curve != expected {
        return Err(PeerError::OtherCurve(key_type));
    }
    let wrong = PeerError::Point(key_type);
    let point = info.subject_public_key.as_bytes().ok_or(wrong)?;
    let algorithm = algorithm(key_type).ok_or(PeerError::OtherCurve(key_type))?;
    let parsed = ParsedPublicKey::try_from(UnparsedPublicKey::new(algorithm, point)).map_err(|_| wrong)?;
    if parsed.format() != ParsedPublicKeyFormat::Uncompressed {
        return Err(wrong);
    }
    Ok(point.to_vec())
}

fn algorithm(key_type: KeyType) -> Option<&'static Algorithm> {
    match key_type {
        KeyType::EcP256 => Some(&agreement::ECDH_P256),
        KeyType::EcP384 => Some(&agreement::ECDH_P384),
        KeyType::EcP521 => Some(&agreement::ECDH_P521),
        _ => None,
    }
}

const EC_PUBLIC_KEY: spki::ObjectIdentifier = spki::ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");

#[cfg(test)]
mod tests {
    use super::*;
    use p256::{SecretKey, elliptic_curve::Generate, pkcs8::EncodePublicKey};

    fn public_key() -> Vec<u8> {
        let key = SecretKey::generate().public_key();
        key.to_public_key_der().expect("an encodable key").to_vec()
    }

    #[test]
    fn a_point_on_the_curve_is_taken_out() {
        let der = public_key();
        let point = peer_point(KeyType::EcP256, &der).expect("a point");
        assert_eq!((point.len(), point[0]), (65, 4));
        assert!(der.ends_with(&point));
    }

    #[test]
    fn every_point_that_is_not_on_the_curve_is_refused() {
        let good = public_key();
        let wrong = Err(PeerError::Point(KeyType::EcP256));
        for at in [good.len() - 1, good.len() - 40] {
            let mut changed = good.clone();
            changed[at] ^= 1;
            assert_eq!(peer_point(KeyType::EcP256, &changed), wrong, "byte {at}");
        }
        // Zero coordinates, and the one byte of the point at infinity.
        let (head, _) = good.split_at(good.len() - 65);
        assert_eq!(peer_point(KeyType::EcP256, &[head, &[4; 1], &[0; 64]].concat()), wrong);
        let infinity = [&[0x30, 0x19], &head[2..good.len() - 65 - 3], &[3, 2, 0, 0]].concat();
        assert_eq!(peer_point(KeyType::EcP256, &infinity), wrong);
        // Compressed.
        let mut compressed = [&[0x30, 0x39], &head[2..good.len() - 65 - 3], &[3, 34, 0, 2]].concat();
        compressed.extend(&good[good.len() - 64..good.len() - 32]);
        assert_eq!(peer_point(KeyType::EcP256, &compressed), wrong);
    }

    #[test]
    fn other_curves_and_other_bytes_are_refused() {
        let good = public_key();
        assert_eq!(
            peer_point(KeyType::EcP384, &good),
            Err(PeerError::OtherCurve(KeyType::EcP384))
        );
        assert_eq!(peer_point(KeyType::EcP256, &good[1..]), Err(PeerError::Malformed));
        assert_eq!(peer_point(KeyType::EcP256, &[]), Err(PeerError::Malformed));
    }
}
