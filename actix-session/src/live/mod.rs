//! Ends of sessions, told to whoever waits for them: open sockets and streams.
//!
//! A handler asks its session for a [`SessionEnded`]. The store has the other half, a [`Watch`]. Stores
//! with a back end keep their watches in a [`hub`]: the steps of this process tell it what they have
//! ended, other processes do so through the back end if that can tell, and whatever nobody tells is
//! found by looking.

#[cfg(any(feature = "_backend", test))]
pub(crate) mod hub;
#[cfg(any(feature = "redis-session", feature = "postgres-session", test))]
pub(crate) mod line;
#[cfg(any(feature = "_backend", test))]
pub(crate) mod look;
#[cfg(any(feature = "_backend", test))]
mod places;
mod poll;
#[cfg(any(feature = "_backend", test))]
mod runtime;
mod watch;

#[cfg(any(feature = "_backend", test))]
pub(crate) use self::poll::poll_backend;
#[cfg(feature = "key-value-session")]
pub(crate) use self::runtime::spawn;
pub use self::watch::{EndReason, SessionEnded, Watch};
pub(crate) use self::{
    poll::{ask, poll, unwanted, wait},
    watch::{Looking, Waits, pair},
};
