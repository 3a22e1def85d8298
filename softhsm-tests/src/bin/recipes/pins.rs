//! PINs that nobody chose, refused and changed.

use crate::Token;
use portcullis_hsm::{
    Error,
    domain::{Transport, TrustedKey},
    offline_token::{PIN_LENGTH, random_pin},
    pkcs11::{Module, UserType},
    token::initialise_token,
};
use secrecy::ExposeSecret;
use std::sync::Arc;

pub(crate) fn run(module: &Arc<Module>) {
    let pins: Vec<_> = (0..64).map(|_| random_pin().expect("a PIN")).collect();
    for (index, pin) in pins.iter().enumerate() {
        assert_eq!(pin.expose_secret().len(), PIN_LENGTH);
        assert!(
            pins[..index]
                .iter()
                .all(|other| other.expose_secret() != pin.expose_secret())
        );
    }
    let mut token = Token::make(module, "token");
    let wrong = &pins[0];
    let taken = initialise_token(module, "token", wrong, wrong);
    assert!(matches!(taken, Err(Error::TokenSelection(_))), "{taken:?}");

    // A wrong PIN is told apart from everything else, and the right one is still right.
    let refused = token.token.as_user(wrong, |_| Ok(())).expect_err("a wrong PIN");
    assert!(
        matches!(
            refused,
            Error::LoginRefused {
                user: UserType::User,
                ..
            }
        ),
        "{refused}"
    );
    assert!(
        refused.to_string().starts_with("the token refused the user's PIN"),
        "{refused}"
    );
    let refused = token.token.as_officer(wrong, |_| Ok(())).expect_err("a wrong PIN");
    assert!(
        refused
            .to_string()
            .starts_with("the token refused the security officer's PIN"),
        "{refused}"
    );
    token.as_user(|_| Ok(())).expect("the right PIN");
    token.as_officer(|_| Ok(())).expect("the right PIN");

    // A deed that fails does not leave anybody logged in.
    let failed = token.as_user(|_| Err::<(), _>(Error::WrongAnswer));
    assert!(matches!(failed, Err(Error::WrongAnswer)), "{failed:?}");
    token.as_officer(|_| Ok(())).expect("nobody else is logged in");

    // Nor what it made as a session object.
    let member = Token::make(module, "member")
        .as_user(|session| Ok(Transport::generate(session)?.public_key().to_vec()))
        .expect("a transport key");
    let mut trusted = None;
    let failed = token.as_officer(|session| {
        trusted = Some(TrustedKey::transport(session, &member)?);
        Err::<(), _>(Error::WrongAnswer)
    });
    assert!(matches!(failed, Err(Error::WrongAnswer)), "{failed:?}");
    let trusted = trusted.expect("a trusted key");
    let gone = token.as_officer(|session| trusted.destroy(session));
    assert!(gone.is_err(), "a trusted key outlived a deed that failed");

    let (officer, user) = (&pins[1], &pins[2]);
    token
        .token
        .change_officer_pin(&token.officer, officer)
        .expect("a new PIN");
    assert!(token.as_officer(|_| Ok(())).is_err(), "the old PIN is still good");
    token.token.as_officer(officer, |_| Ok(())).expect("the new PIN");
    token.token.set_user_pin(officer, user).expect("a new PIN");
    assert!(token.as_user(|_| Ok(())).is_err(), "the old PIN is still good");
    token.token.as_user(user, |_| Ok(())).expect("the new PIN");
}
