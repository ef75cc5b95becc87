//! Entries whose name and type are written down once.

use std::{fmt, marker::PhantomData};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::value::{RawValue, to_raw_value};

use super::{
    Session,
    errors::{
        SessionGetError, SessionInsertError, SessionTakeError, SessionUpdateError, not_serializable,
    },
};

/// The name and the type of an entry, in one place.
///
/// Declare each entry of an application as a constant, and neither the name nor the type can differ
/// from one handler to the next. Each entry stands for itself: one that cannot be read is an error
/// of its own, and neither it nor the others are lost. Entries that nobody has declared stay too.
///
/// # Old and new shapes
/// Servers of two versions share the sessions while a new version is rolled out. So let each read
/// what the other writes: give new fields `#[serde(default)]`, and keep the fields of a newer version
/// with `#[serde(flatten)]`. If a type changes altogether, give the entry another name.
///
/// # Examples
/// ```
/// use actix_session::{Session, SessionEntry};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
/// struct Preferences {
///     language: String,
///     // Sessions of the last version have none.
///     #[serde(default)]
///     dark: bool,
///     // A later version's fields outlive a change by this one.
///     #[serde(flatten)]
///     unknown: serde_json::Map<String, serde_json::Value>,
/// }
///
/// const PREFERENCES: SessionEntry<Preferences> = SessionEntry::new("preferences");
/// const BASKET: SessionEntry<Vec<u64>> = SessionEntry::new("basket");
///
/// # let session = Session::new();
/// session.insert("preferences", serde_json::json!({ "language": "cy", "zoom": 2 }))?;
/// PREFERENCES.modify(&session, |stored| {
///     let stored = stored.unwrap_or_default();
///     Some(Preferences { dark: true, ..stored })
/// })?;
/// assert_eq!(
///     session.get("preferences")?,
///     Some(serde_json::json!({ "language": "cy", "dark": true, "zoom": 2 }))
/// );
/// assert_eq!(BASKET.get(&session)?, None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct SessionEntry<T> {
    name: &'static str,
    value: PhantomData<fn() -> T>,
}

impl<T> SessionEntry<T> {
    /// The entry of this name.
    ///
    /// # Examples
    /// ```
    /// use actix_session::SessionEntry;
    ///
    /// const THEME: SessionEntry<String> = SessionEntry::new("theme");
    /// assert_eq!(THEME.name(), "theme");
    /// ```
    pub const fn new(name: &'static str) -> Self {
        Self {
            name,
            value: PhantomData,
        }
    }

    /// The name that it is stored under.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Whether there is such an entry, of whatever type.
    ///
    /// # Examples
    /// ```
    /// # use actix_session::{Session, SessionEntry};
    /// const THEME: SessionEntry<String> = SessionEntry::new("theme");
    /// assert!(!THEME.is_set(&Session::new()));
    /// ```
    pub fn is_set(&self, session: &Session) -> bool {
        session.contains_key(self.name)
    }
}

impl<T: Serialize + DeserializeOwned> SessionEntry<T> {
    /// Gets the value: [`Session::get`].
    ///
    /// # Errors
    /// As there. [`is_of_another_type`](SessionGetError::is_of_another_type) says whether the value is
    /// one of another type, which stays as it is.
    ///
    /// # Examples
    /// ```
    /// # use actix_session::{Session, SessionEntry};
    /// const N: SessionEntry<u32> = SessionEntry::new("n");
    /// # let session = Session::new();
    /// assert_eq!(N.get(&session)?, None);
    /// session.insert("n", "an older version's")?;
    /// assert!(N.get(&session).unwrap_err().is_of_another_type());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn get(&self, session: &Session) -> Result<Option<T>, SessionGetError> {
        session.get(self.name)
    }

    /// Sets the value: [`Session::insert`].
    ///
    /// # Errors
    /// As there.
    ///
    /// # Examples
    /// ```
    /// # use actix_session::{Session, SessionEntry};
    /// const N: SessionEntry<u32> = SessionEntry::new("n");
    /// # let session = Session::new();
    /// N.insert(&session, &7)?;
    /// assert_eq!(N.get(&session)?, Some(7));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn insert(&self, session: &Session, value: &T) -> Result<(), SessionInsertError> {
        session.insert(self.name, value)
    }

    /// Changes the value, and loses no parallel change: [`Session::modify`].
    ///
    /// # Errors
    /// As there.
    ///
    /// # Examples
    /// ```
    /// # use actix_session::{Session, SessionEntry};
    /// const CLICKS: SessionEntry<u32> = SessionEntry::new("clicks");
    /// # let session = Session::new();
    /// CLICKS.modify(&session, |clicks| Some(clicks.unwrap_or(0) + 1))?;
    /// assert_eq!(CLICKS.get(&session)?, Some(1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn modify<F>(&self, session: &Session, modifier: F) -> Result<(), SessionUpdateError>
    where
        F: Fn(Option<T>) -> Option<T> + Send + Sync + 'static,
    {
        session.modify(self.name, modifier)
    }

    /// Removes the entry, and returns its value, or its JSON text if it is of another type:
    /// [`Session::remove_as`].
    ///
    /// # Examples
    /// ```
    /// # use actix_session::{Session, SessionEntry};
    /// const N: SessionEntry<u32> = SessionEntry::new("n");
    /// # let session = Session::new();
    /// session.insert("n", "text")?;
    /// assert_eq!(N.remove(&session), Some(Err("\"text\"".to_owned())));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn remove(&self, session: &Session) -> Option<Result<T, String>> {
        session.remove_as(self.name)
    }

    /// Removes the entry at once, and returns its value to one request alone: [`Session::take`].
    ///
    /// # Errors
    /// As there.
    ///
    /// # Examples
    /// ```
    /// use actix_session::{Session, SessionEntry};
    ///
    /// const TOKEN: SessionEntry<String> = SessionEntry::new("token");
    ///
    /// async fn confirm(session: Session) -> actix_web::Result<&'static str> {
    ///     let token = TOKEN.take(&session).await?;
    ///     Ok(if token.is_some() { "confirmed" } else { "this link has been used" })
    /// }
    /// # actix_web::web::to(confirm);
    /// ```
    pub async fn take(&self, session: &Session) -> Result<Option<T>, SessionTakeError> {
        session.take(self.name).await
    }
}

impl<T> Clone for SessionEntry<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for SessionEntry<T> {}

/// Shows the name.
impl<T> fmt::Debug for SessionEntry<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SessionEntry").field(&self.name).finish()
    }
}

/// How many messages wait at most: a page that never shows them must not fill the session.
const MOST_MESSAGES: usize = 20;

/// Messages for the next page: "your changes are saved", after a redirect.
///
/// Whatever parallel requests add is kept, and each message is shown once at most: of several pages
/// that load at once, one gets it. (With stores that cannot compare and set, two can:
/// [`Session::take`].) The last 20 are kept.
///
/// # Examples
/// ```
/// use actix_session::{Flash, Session};
/// use actix_web::{HttpResponse, Result, http::header::LOCATION};
///
/// const NOTICES: Flash<String> = Flash::new("notices");
///
/// async fn save(session: Session) -> Result<HttpResponse> {
///     NOTICES.push(&session, &"your changes are saved".to_owned())?;
///     Ok(HttpResponse::SeeOther().insert_header((LOCATION, "/")).finish())
/// }
///
/// async fn index(session: Session) -> Result<String> {
///     Ok(NOTICES.take(&session).await?.join("\n"))
/// }
/// # actix_web::web::to(save);
/// # actix_web::web::to(index);
/// ```
pub struct Flash<T>(SessionEntry<T>);

impl<T> Flash<T> {
    /// Messages that wait in the entry of this name.
    ///
    /// # Examples
    /// ```
    /// use actix_session::Flash;
    ///
    /// const NOTICES: Flash<String> = Flash::new("notices");
    /// # let _ = NOTICES;
    /// ```
    pub const fn new(entry: &'static str) -> Self {
        Self(SessionEntry::new(entry))
    }
}

impl<T: Serialize + DeserializeOwned> Flash<T> {
    /// Adds a message. If that makes more than 20, the oldest goes.
    ///
    /// # Errors
    /// The message does not serialize as JSON, or as for [`Session::modify`]: what stands in the
    /// entry is not a list of messages.
    ///
    /// # Examples
    /// ```
    /// # use actix_session::{Flash, Session};
    /// const NOTICES: Flash<String> = Flash::new("notices");
    /// # let session = Session::new();
    /// NOTICES.push(&session, &"saved".to_owned())?;
    /// assert_eq!(session.get("notices")?, Some(vec!["saved".to_owned()]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn push(&self, session: &Session, message: &T) -> Result<(), SessionUpdateError> {
        let name = self.0.name;
        let message = to_raw_value(message)
            .map_err(|error| SessionUpdateError(not_serializable::<T>(name, error)))?;
        session.modify(name, move |waiting: Option<Vec<Box<RawValue>>>| {
            let mut waiting = waiting.unwrap_or_default();
            let surplus = (waiting.len() + 1).saturating_sub(MOST_MESSAGES);
            waiting.drain(..surplus);
            waiting.push(message.clone());
            Some(waiting)
        })
    }

    /// Takes all messages, the oldest first. Call it where they are shown.
    ///
    /// # Errors
    /// As for [`Session::take`]: then the messages stay. That also goes for a call after `login` or
    /// `renew` in the same request, if a message waits: take before it. One message that an older
    /// version of the application has left, and this one cannot read, holds up all that follow.
    /// Take the entry out then, or give it another name when `T` changes.
    ///
    /// # Examples
    /// ```
    /// # use actix_session::{Flash, Session};
    /// # actix_web::rt::System::new().block_on(async {
    /// const NOTICES: Flash<u32> = Flash::new("notices");
    /// # let session = Session::new();
    /// NOTICES.push(&session, &1)?;
    /// NOTICES.push(&session, &2)?;
    /// assert_eq!(NOTICES.take(&session).await?, [1, 2]);
    /// assert!(NOTICES.take(&session).await?.is_empty());
    ///
    /// // A message is not worth an error page.
    /// session.insert("notices", ["an older version's"])?;
    /// let notices = match NOTICES.take(&session).await {
    ///     Err(error) if error.is_of_another_type() => {
    ///         session.remove("notices");
    ///         Vec::new()
    ///     }
    ///     taken => taken?,
    /// };
    /// assert!(notices.is_empty() && session.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    pub async fn take(&self, session: &Session) -> Result<Vec<T>, SessionTakeError> {
        let messages = session.take(self.0.name).await?;
        Ok(messages.unwrap_or_default())
    }
}

impl<T> Clone for Flash<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Flash<T> {}

/// Shows the name of the entry.
impl<T> fmt::Debug for Flash<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Flash").field(&self.0.name).finish()
    }
}
