//! The users that have an account.

use sqlx::SqlitePool;

/// An account as pages show it, without the password's hash.
#[derive(Debug, Clone)]
pub(crate) struct User {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) email: Option<String>,
    pub(crate) created_at: String,
}

impl User {
    fn of_row((id, name, email, created_at): (String, String, Option<String>, String)) -> Self {
        Self {
            id,
            name,
            email,
            created_at,
        }
    }
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
        let sql = "SELECT id, name, email, created_at FROM users WHERE id = ?";
        let row = sqlx::query_as(sql).bind(id).fetch_optional(&self.0).await?;
        Ok(row.map(User::of_row))
    }

    /// Up to so many users, by name.
    pub(crate) async fn first(&self, most: u32) -> Result<Vec<User>, sqlx::Error> {
        let sql = "SELECT id, name, email, created_at FROM users ORDER BY name LIMIT ?";
        let rows = sqlx::query_as(sql).bind(most).fetch_all(&self.0).await?;
        Ok(rows.into_iter().map(User::of_row).collect())
    }

    pub(crate) async fn set_email(&self, id: &str, email: &str) -> Result<(), sqlx::Error> {
        let change = sqlx::query("UPDATE users SET email = ? WHERE id = ?");
        let changed = change.bind(email).bind(id).execute(&self.0).await;
        changed.map(drop)
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

/// Says what is wrong with an e-mail address, if anything. Whether it exists, only a mail can tell.
pub(crate) fn email_problem(email: &str) -> Option<&'static str> {
    let is_odd = |c: char| c.is_whitespace() || c.is_control() || "<>()[],;:\\\"".contains(c);
    let parts = email.rsplit_once('@').filter(|(name, host)| {
        !name.is_empty() && !name.contains('@') && host.split('.').all(|part| !part.is_empty())
    });
    if parts.is_none() || email.len() > 254 || email.contains(is_odd) {
        return Some("Type one address, such as ada@example.org.");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_one_address() {
        for good in ["ada@example.org", "a.b+c@localhost", "zoë@exämple.org"] {
            assert_eq!(email_problem(good), None, "{good}");
        }
        for bad in [
            "", "ada", "@b", "a@", "a@b@c", "a b@c", "a@b,c@d", "a@b..c", "<a@b>", "a@b\n",
        ] {
            assert!(email_problem(bad).is_some(), "{bad}");
        }
        assert!(email_problem(&format!("{}@b", "a".repeat(253))).is_some());
    }

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
