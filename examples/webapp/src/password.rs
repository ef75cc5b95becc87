//! Passwords: which are accepted, and how they are stored.

use std::sync::Arc;

use actix_web::web;
use argon2::{
    Argon2,
    password_hash::{PasswordHasher as _, PasswordVerifier as _, phc::PasswordHash},
};
use tokio::sync::Semaphore;

use crate::error::AppError;

/// In characters. NIST SP 800-63B requires at least 8, and that 64 are accepted.
const MIN_LENGTH: usize = 8;
const MAX_LENGTH: usize = 128;

/// How many passwords are hashed at once. Each takes 19 MiB for tens of milliseconds; during a rush
/// on the login page, others wait here instead of using up all the memory.
const MAX_PARALLEL: usize = 4;

/// A few of the passwords that attackers try first. A public service would check a full list.
const COMMON: [&str; 16] = [
    "12345678",
    "123456789",
    "1234567890",
    "11111111",
    "00000000",
    "abcd1234",
    "baseball",
    "football",
    "iloveyou",
    "letmein1",
    "password",
    "password1",
    "passw0rd",
    "qwerty123",
    "qwertyuiop",
    "sunshine",
];

/// Hashes and verifies passwords with Argon2id, off the threads that serve requests.
#[derive(Clone)]
pub(crate) struct Passwords {
    permits: Arc<Semaphore>,
    dummy: Arc<str>,
}

impl Passwords {
    pub(crate) fn new() -> Result<Self, AppError> {
        let dummy = hash_now("no account has this password")?.into();
        Ok(Self {
            permits: Arc::new(Semaphore::new(MAX_PARALLEL)),
            dummy,
        })
    }

    pub(crate) async fn hash(&self, password: String) -> Result<String, AppError> {
        self.in_turn(move || hash_now(&password)).await
    }

    /// Compares a password with the hash of an account. If there is no account, it is compared with
    /// a dummy, so that the response time does not reveal which names exist.
    pub(crate) async fn verify(
        &self,
        password: &str,
        hash: Option<&str>,
    ) -> Result<bool, AppError> {
        let password = password.to_owned();
        let known = hash.is_some();
        let hash = hash.unwrap_or(&self.dummy).to_owned();
        let matches = self.in_turn(move || verify_now(&password, &hash)).await?;
        Ok(matches && known)
    }

    /// The permit stays with the work, so a visitor that disconnects does not free it early.
    async fn in_turn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, AppError> + Send + 'static,
    ) -> Result<T, AppError> {
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        let permit = permit.expect("nothing closes the semaphore");
        web::block(move || {
            let _permit = permit;
            work()
        })
        .await?
    }
}

/// Says what is wrong with a new password, if anything.
pub(crate) fn problem(password: &str, name: &str) -> Option<&'static str> {
    let length = password.chars().count();
    if length < MIN_LENGTH {
        return Some("Use at least 8 characters. A few words in a row are easy to remember.");
    }
    if length > MAX_LENGTH {
        return Some("Use at most 128 characters.");
    }
    let lower = password.to_lowercase();
    let guessable = COMMON.contains(&lower.as_str()) || lower == name.to_lowercase();
    guessable.then_some("Choose another one: this is one of the first that an attacker would try.")
}

fn hash_now(password: &str) -> Result<String, AppError> {
    Ok(Argon2::default()
        .hash_password(password.as_bytes())?
        .to_string())
}

fn verify_now(password: &str, hash: &str) -> Result<bool, AppError> {
    let hash = PasswordHash::new(hash).map_err(argon2::password_hash::Error::from)?;
    match Argon2::default().verify_password(password.as_bytes(), &hash) {
        Ok(()) => Ok(true),
        Err(argon2::password_hash::Error::PasswordInvalid) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_is_counted_in_characters_not_bytes() {
        assert!(problem("sieben7", "ada").is_some());
        assert_eq!(problem("ääääääää", "ada"), None);
        assert_eq!(problem(&"ä".repeat(128), "ada"), None);
        assert!(problem(&"a".repeat(129), "ada").is_some());
    }

    #[test]
    fn the_first_guesses_are_refused() {
        assert!(problem("Password", "ada").is_some());
        assert!(problem("ada.lovelace", "Ada.Lovelace").is_some());
    }

    #[actix_web::test]
    async fn a_hash_matches_its_own_password_only() {
        let passwords = Passwords::new().unwrap();
        let hash = passwords.hash("correct horse".to_owned()).await.unwrap();
        assert!(hash.starts_with("$argon2id$"), "{hash}");
        assert!(
            passwords
                .verify("correct horse", Some(&hash))
                .await
                .unwrap()
        );
        assert!(
            !passwords
                .verify("battery staple", Some(&hash))
                .await
                .unwrap()
        );
    }

    #[actix_web::test]
    async fn the_password_of_the_dummy_opens_nothing() {
        let passwords = Passwords::new().unwrap();
        let answer = passwords.verify("no account has this password", None).await;
        assert!(!answer.unwrap());
    }
}
