//! Looking at what has become of requests that nobody waited for, and at everything at the end.

use std::time::Duration;

use actix_web::rt;

use super::{acts::Act, user::User};

impl User {
    /// Looks at everything a last time.
    pub(super) async fn look_back(&mut self) {
        self.settle().await;
        self.is_patient = true;
        for cookie in self.dead.clone() {
            let looks = async |user: &mut Self| user.is_nobody(&cookie, Act::Look).await;
            if !self.comes_true(looks, 3).await {
                self.came_back(&cookie);
            }
        }
    }

    /// What handlers have done counts, whether or not anybody waited for the answer, unless a back
    /// end fails: then a client that waited for it was told.
    pub(super) async fn settle(&mut self) {
        self.is_patient = true;
        self.is_in_doubt = false;
        self.ask(Act::Look).await;
        if self.client.hangs_up() {
            self.settle_endings().await;
            self.settle_counts().await;
        }
        self.is_patient = false;
    }

    async fn settle_endings(&mut self) {
        for cookie in std::mem::take(&mut self.doubtful) {
            if self.shared.ran.tally(&cookie.session).endings == 0 {
                // Perhaps it is still on its way.
                self.doubtful.push(cookie);
                continue;
            }
            let looks = async |user: &mut Self| user.is_nobody(&cookie, Act::Look).await;
            if !self.comes_true(looks, 200).await {
                self.tell(&format!("a handler ended it, and it lives: {cookie:?}"));
            }
        }
    }

    async fn settle_counts(&mut self) {
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
            self.leave();
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
