//! PostgreSQL that is killed, frozen, cut off, failed over and forgotten by a firewall.

use std::time::Duration;

use actix_session::storage::PostgresSessionStore;
use servers::PostgresServer;

use super::{Plan, Victim, endure, pair::Pair};
use crate::support::load::Load;

/// How long nobody takes writes: longer than the store looks for somebody.
const SPAN: Duration = Duration::from_millis(2_500);

#[derive(Debug, Clone, Copy)]
pub(super) enum Fault {
    Killed,
    Frozen,
    /// Writes are carried out, and acknowledged late or never.
    ReplicaFrozen,
    Disconnected,
    /// What is sent on open connections meets silence.
    Forgotten,
    /// The replica has replaced a primary that was killed.
    FailedOver,
    /// The replica has replaced a primary to which connections still lead.
    SwitchedOver,
    /// The address led to the replica, which takes no writes.
    Misled,
}

impl Victim for Pair {
    type Fault = Fault;

    const FAULTS: &'static [Fault] = &[
        Fault::Killed,
        Fault::FailedOver,
        Fault::Forgotten,
        Fault::SwitchedOver,
        Fault::Frozen,
        Fault::Disconnected,
        Fault::ReplicaFrozen,
        Fault::Misled,
    ];
    const SHORT: usize = 3;

    async fn suffer(self, fault: Fault, load: &Load) -> Self {
        match fault {
            Fault::Killed => self.with_primary(|server| server.restart().unwrap()).await,
            Fault::Frozen => self.with_primary(freeze).await,
            Fault::ReplicaFrozen => self.with_replica(freeze).await,
            Fault::Disconnected => {
                self.disconnect().await;
                self
            }
            Fault::Forgotten => {
                self.way.forget();
                self
            }
            Fault::FailedOver => self.fail_over().await,
            Fault::SwitchedOver => {
                load.may_be_stale(true);
                self.switch_over(SPAN).await
            }
            Fault::Misled => {
                load.may_be_stale(true);
                self.mislead(SPAN).await;
                self
            }
        }
    }

    async fn mend(mut self, load: &Load) -> Self {
        self.way.cut_others();
        self.old = None;
        load.may_be_stale(false);
        self.complete().await
    }
}

fn freeze(server: &mut PostgresServer) {
    server.pause().unwrap();
    std::thread::sleep(Duration::from_millis(1_500));
    server.resume().unwrap();
}

#[actix_web::test]
async fn a_postgres_that_fails_keeps_its_word() {
    let plan = Plan::read(Duration::ZERO);
    let pair = Pair::start().await;
    let store = PostgresSessionStore::builder(pair.url());
    let load = Load::start_with(store.build().await.unwrap(), plan.seed).await;
    endure(pair, load, &plan).await;
}
