//! A small web application that shows `actix-session` at work: accounts, notes that are kept in the
//! session, and a counter that counts right under parallel clicks.
//!
//! Where to look:
//!
//! | question | file |
//! | --- | --- |
//! | How is the session middleware set up? | `app.rs` |
//! | What do login and logout do to the session? | `pages/account.rs` |
//! | What asks for the password again before something sensitive? | `pages/confirm.rs` |
//! | How does a user see and end their devices, and an administrator anybody's? | `pages/devices.rs`, `pages/admin.rs` |
//! | How is a user warned before the end? | `pages/session.rs`, `assets/live.js` |
//! | How do I keep a list in the session? | `notes.rs`, `pages/notes.rs` |
//! | How do I count without losing a click? | `pages/home.rs` |
//! | How does a message survive a redirect? | `flash.rs` |
//! | What protects against forms from other sites? | `app.rs` |
//! | What slows down whoever guesses passwords? | `guesses.rs` |
//! | How does an operator see what happens to sessions? | `metrics.rs` |
//! | Which environment variables are there? | [`Config`] |

mod app;
mod assets;
mod client;
mod config;
mod database;
mod error;
mod flash;
mod guesses;
mod metrics;
mod notes;
mod pages;
mod password;
mod responses;
mod start_error;
mod users;
mod visitor;

pub use app::Application;
pub use config::{Config, ConfigError, Environment, StoreUrl};
pub use start_error::StartError;
