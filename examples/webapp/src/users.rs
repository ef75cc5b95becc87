//! The users that have an account.

use sqlx::SqlitePool;

/// An account as pages show it, without the password's hash.
#[derive(Debug, Clone)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) created_at: String,
}

/// What a login is compared with.
pub(crate) struct Credentials {
    pub(crate) id: String,
    pub(crate) password_hash: String,
}

/// The table of users.
#[derive(Debug, Clone)]
pub(crate) struct Users(SqlitePool);

impl Users {
    pub(crate) fn new(pool: SqlitePool) -> Self {
        Self(pool)
    }

    /// Adds a user and returns the id, or `None` if the name is taken.
    pub(crate) async fn add(&self, name: &str, hash: &str) -> Result<Option<String>, sqlx::Error> {
        sqlx::query_scalar(
            "INSERT INTO users (name, password_hash) VALUES (?, ?)
             ON CONFLICT (name) DO NOTHING RETURNING id",
        )
        .bind(name)
        .bind(hash)
        .fetch_optional(&self.0)
        .await
    }

    pub(crate) async fn by_id(&self, id: &str) -> Result<Option<User>, sqlx::Error> {
        let row = sqlx::query_as("SELECT name, created_at FROM users WHERE id = ?")
            .bind(id)
            .fetch_optional(&self.0)
            .await?;
        Ok(row.map(|(name, created_at)| User { name, created_at }))
    }

    pub(crate) async fn credentials(&self, name: &str) -> Result<Option<Credentials>, sqlx::Error> {
        let row = sqlx::query_as("SELECT id, password_hash FROM users WHERE name = ?")
            .bind(name)
            .fetch_optional(&self.0)
            .await?;
        Ok(row.map(|(id, password_hash)| Credentials { id, password_hash }))
    }
}

/// Says what is wrong with a new name, if anything.
///
/// Names use the letters of one alphabet, so that no two names look alike.
pub(crate) fn name_problem(name: &str) -> Option<&'static str> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if !(3..=32).contains(&name.len()) || !name.bytes().all(allowed) {
        return Some("Use 3 to 32 characters: letters a to z, digits, dots, hyphens, underscores.");
    }
    let starts_with_letter = name.starts_with(|first: char| first.is_ascii_alphabetic());
    (!starts_with_letter).then_some("Start with a letter.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain() {
        for good in ["ada", "Ada.Lovelace-1815", "a_b", &"a".repeat(32)] {
            assert_eq!(name_problem(good), None, "{good}");
        }
        for bad in [
            "",
            "ab",
            "1ada",
            ".ada",
            "ada lovelace",
            "adа",
            "<b>ada",
            &"a".repeat(33),
        ] {
            assert!(name_problem(bad).is_some(), "{bad}");
        }
    }
}
