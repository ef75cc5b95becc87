//! What lies under the names of sessions that somebody waits for.

use tokio::time::Instant;

use crate::{
    clock::deadline,
    contract::Terms,
    protocol::{Backend, Flag, Name, Stored, Trail},
    record::Record,
};

/// What a name leads to.
#[derive(Debug)]
pub(crate) enum Seen {
    Live(Name, Record),
    /// A later version wrote it.
    Unreadable,
    /// The session is renewed again and again, and was here last: the next look begins here.
    Ahead(Name),
    Nothing,
}

/// Follows redirects from a name, under which this may have been found already, within half of the budget.
/// Where one says that the session has ended or is another person's, nothing is there.
///
/// The terms are those of a look that is no activity. What is found says when it ends, where the store
/// knows.
///
/// # Errors
/// The store fails.
pub(crate) async fn follow<B: Backend>(
    store: &B,
    mut at: Name,
    mut found: Option<Stored>,
    terms: &Terms,
) -> anyhow::Result<Seen> {
    // Whoever waits for this waits no longer than the budget.
    let (mut trail, deadline) = (Trail::default(), deadline(terms.budget / 2));
    loop {
        let known = match found.take() {
            Some(found) => found,
            None => store.look(&at, terms).await?,
        };
        match known.proven(&at, terms).live(terms) {
            Stored::Record(record) => return Ok(Seen::Live(at, record)),
            Stored::Unreadable => return Ok(Seen::Unreadable),
            Stored::Redirect(redirect) if redirect.flag != Flag::Ended => at = redirect.target,
            Stored::Redirect(_) | Stored::Nothing => return Ok(Seen::Nothing),
        }
        if trail.comes_back_to(&at) {
            return Ok(Seen::Nothing);
        }
        if Instant::now() >= deadline {
            return Ok(Seen::Ahead(at));
        }
    }
}
