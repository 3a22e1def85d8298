//! The PIN of the token that is driven directly.

use crate::error::Error;
use secrecy::SecretSlice;
use std::{fs::File, io::Read, path::Path};
use zeroize::Zeroizing;

/// Reads the PIN: the first line of a file, or what is typed where no file is named.
pub(crate) fn read(file: Option<&Path>, token: &str) -> Result<SecretSlice<u8>, Error> {
    let mut pin = match file {
        Some(path) => from_file(path).map_err(|error| Error::Pin(format!("{}: {error}", path.display())))?,
        None => {
            let typed = rpassword::prompt_password(format!("PIN of the token {token}: "));
            let typed = typed.map_err(|error| {
                Error::Pin(format!(
                    "nothing can be typed here ({error}): name a file that holds it"
                ))
            })?;
            Zeroizing::new(typed.into_bytes())
        }
    };
    if let Some(end) = pin.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
        pin.truncate(end);
    }
    if pin.is_empty() {
        return Err(Error::Pin("it is empty".to_owned()));
    }
    Ok(SecretSlice::from(pin.to_vec()))
}

fn from_file(path: &Path) -> std::io::Result<Zeroizing<Vec<u8>>> {
    let mut file = File::open(path)?;
    // Sized before: a buffer that grows leaves copies behind.
    let mut bytes = Zeroizing::new(vec![0; LONGEST]);
    let mut length = 0;
    while length < bytes.len() {
        match file.read(&mut bytes[length..])? {
            0 => break,
            more => length += more,
        }
    }
    bytes.truncate(length);
    Ok(bytes)
}

const LONGEST: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;

    #[test]
    fn the_first_line_is_the_pin() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("pin");
        std::fs::write(&file, "1234\r\nnotes\n").expect("a file");
        assert_eq!(read(Some(&file), "t").expect("a PIN").expose_secret(), b"1234");
        std::fs::write(&file, "\n1234").expect("a file");
        assert!(matches!(read(Some(&file), "t"), Err(Error::Pin(_))));
        assert!(matches!(
            read(Some(&directory.path().join("none")), "t"),
            Err(Error::Pin(_))
        ));
    }
}
