//! A list in the session.

use actix_session::Session;
use serde::{Deserialize, Serialize};

use crate::error::AppError;

const KEY: &str = "notes";
/// How many notes a list may have.
const MAX_NOTES: usize = 10;

/// How many characters a note may have.
const MAX_LENGTH: usize = 200;

/// The list must fit into every store. The smallest is a cookie: 4,096 bytes for everything,
/// encrypted and in base64.
const MAX_BYTES: usize = 1_800;

/// One visitor's notes, oldest first.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Notes {
    next_id: u32,
    items: Vec<Note>,
}

/// One note. Its id is never reused, so a page that has been open since yesterday cannot remove
/// another one.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Note {
    pub(crate) id: u32,
    pub(crate) text: String,
}

impl Notes {
    pub(crate) fn of(session: &Session) -> Result<Self, AppError> {
        Ok(session.get(KEY)?.unwrap_or_default())
    }

    pub(crate) fn items(&self) -> &[Note] {
        &self.items
    }

    pub(crate) fn contains(&self, id: u32) -> bool {
        self.items.iter().any(|note| note.id == id)
    }

    pub(crate) fn has_room_for(&self, text: &str) -> bool {
        self.items.len() < MAX_NOTES && self.clone().with(text).bytes() <= MAX_BYTES
    }

    fn with(mut self, text: &str) -> Self {
        self.items.push(Note {
            id: self.next_id,
            text: text.to_owned(),
        });
        self.next_id = self.next_id.wrapping_add(1);
        self
    }

    fn without(mut self, id: u32) -> Self {
        self.items.retain(|note| note.id != id);
        self
    }

    fn bytes(&self) -> usize {
        serde_json::to_string(self).map_or(usize::MAX, |json| json.len())
    }
}

/// Adds a note, even if a parallel request changes the list meanwhile: the session then runs the
/// closure again, on the stored list. That is why the closure checks the limit.
pub(crate) fn add(session: &Session, text: String) -> Result<(), AppError> {
    Ok(session.modify(KEY, move |stored: Option<Notes>| {
        let notes = stored.unwrap_or_default();
        Some(if notes.has_room_for(&text) {
            notes.with(&text)
        } else {
            notes
        })
    })?)
}

/// Removes a note. If it is already gone, that is not an error: a parallel request meant the same.
pub(crate) fn remove(session: &Session, id: u32) -> Result<(), AppError> {
    Ok(session.modify(KEY, move |stored: Option<Notes>| Some(stored?.without(id)))?)
}

/// Puts the typed text on one line, or says what is wrong with it.
pub(crate) fn tidy(typed: &str) -> Result<String, &'static str> {
    let words: Vec<&str> = typed
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|w| !w.is_empty())
        .collect();
    let text = words.join(" ");
    match text.chars().count() {
        0 => Err("Write something first."),
        1..=MAX_LENGTH => Ok(text),
        _ => Err("Shorten it to 200 characters."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_not_reused() {
        let notes = Notes::default().with("a").with("b").without(1).with("c");
        let ids: Vec<u32> = notes.items().iter().map(|note| note.id).collect();
        assert_eq!(ids, [0, 2]);
    }

    #[test]
    fn the_list_is_bounded_in_number() {
        let full = (0..MAX_NOTES).fold(Notes::default(), |notes, _| notes.with("milk"));
        assert!(!full.has_room_for("one more"));
        assert!(full.without(3).has_room_for("one more"));
    }

    #[test]
    fn the_list_is_bounded_in_bytes_as_stored() {
        let quotes = "\"".repeat(MAX_LENGTH);
        let full = (0..4).fold(Notes::default(), |notes, _| notes.with(&quotes));
        assert!(full.bytes() <= MAX_BYTES && !full.has_room_for(&quotes));
    }

    #[test]
    fn a_note_is_one_line_of_bounded_length() {
        assert_eq!(tidy("  buy\r\n\tmilk\0 ").unwrap(), "buy milk");
        assert!(tidy(" \n ").is_err());
        assert!(tidy(&"ä".repeat(200)).is_ok());
        assert!(tidy(&"ä".repeat(201)).is_err());
    }
}
