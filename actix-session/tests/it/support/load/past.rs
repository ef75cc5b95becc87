//! The last look, once nothing fails any more.

use std::time::Duration;

use actix_web::rt;

use super::{acts::Act, client::Client, user::User};

impl User {
    /// Looks at everything a last time, once whatever was in flight is over.
    pub(super) async fn look_back(&mut self) {
        self.client.is_patient();
        self.ask(Act::Look).await;
        for cookie in self.dead.clone() {
            if !self
                .comes_true(async |user| user.is_nobody(&cookie, Act::Look).await, 3)
                .await
            {
                self.came_back(&cookie);
            }
        }
        if matches!(self.client, Client::Wire(_)) {
            self.look_at_what_ran().await;
        }
    }

    /// What handlers have done counts, whether or not anybody waited for the answer: here, no back
    /// end fails.
    async fn look_at_what_ran(&mut self) {
        for cookie in std::mem::take(&mut self.doubtful) {
            let ended = self.shared.ran.tally(&cookie.session).endings > 0;
            let looks = async |user: &mut Self| user.is_nobody(&cookie, Act::Look).await;
            if ended && !self.comes_true(looks, 200).await {
                self.tell(&format!("a handler ended it, and it lives: {cookie:?}"));
            }
        }
        let Some(name) = self.session.as_ref().map(|session| session.name.clone()) else {
            return;
        };
        let counts = async |user: &mut Self| {
            user.ask(Act::Look).await;
            let ran = user.shared.ran.tally(&name).counts;
            // If it is gone, there is nothing to compare.
            let session = user.session.as_ref();
            Some(session.is_none_or(|session| session.has_logged_in || user.found == Some(ran)))
        };
        if !self.comes_true(counts, 200).await {
            self.tell("handlers counted, and it was not kept");
        }
    }

    /// Looks again and again, for a while.
    async fn comes_true(
        &mut self,
        look: impl AsyncFn(&mut Self) -> Option<bool>,
        attempts: u32,
    ) -> bool {
        for _ in 0..attempts {
            if look(self).await == Some(true) {
                return true;
            }
            rt::time::sleep(Duration::from_millis(50)).await;
        }
        false
    }
}
