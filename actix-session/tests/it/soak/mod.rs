//! Load with a fault every few seconds: nothing acknowledged is lost, nothing ended comes back, and
//! requests work again once the back end does. `cargo xtask soak` runs these for longer, judges how
//! long that takes, and shows the figures. Otherwise some faults come once, and no time is judged.

mod hangups;
mod index;
mod pair;
mod redis;
mod sql;

use std::{
    env,
    fmt::Debug,
    hash::{BuildHasher as _, RandomState},
    time::{Duration, Instant},
};

use actix_web::rt;

use crate::support::load::{Load, Report};

const SECONDS: &str = "SOAK_SECONDS";
const SEED: &str = "SOAK_SEED";
const FAULT: &str = "SOAK_FAULT";

/// Once the back end is back, requests work again within this time.
const RECOVERY: Duration = Duration::from_secs(2);

/// How long a run takes, and what it is to find out.
struct Plan {
    seed: u64,
    run: Duration,
    /// The time between two faults, and as long again after one.
    gap: Duration,
    /// Not every fault comes, and a slow recovery does not fail the run.
    is_short: bool,
}

impl Plan {
    /// As the environment says; otherwise a run of this length.
    fn read(short: Duration) -> Self {
        let seconds = number(SECONDS);
        let gap = if seconds.is_some() { 1_500 } else { 300 };
        Self {
            seed: number(SEED).unwrap_or_else(|| RandomState::new().hash_one(())),
            run: seconds.map_or(short, Duration::from_secs),
            gap: Duration::from_millis(gap),
            is_short: seconds.is_none(),
        }
    }

    /// All of them, some, or the one that the environment names.
    fn faults_of<V: Victim>(&self) -> Vec<V::Fault> {
        let mut faults = V::FAULTS.to_vec();
        match env::var(FAULT) {
            Ok(wanted) => faults.retain(|fault| format!("{fault:?}") == wanted),
            Err(_) if self.is_short => faults.truncate(V::SHORT),
            Err(_) => {}
        }
        assert!(!faults.is_empty(), "{FAULT} must be one of {:?}", V::FAULTS);
        faults
    }
}

fn number(variable: &str) -> Option<u64> {
    env::var(variable).ok().and_then(|text| text.parse().ok())
}

/// A back end to which something is done.
trait Victim: Sized {
    type Fault: Copy + Debug + 'static;

    const FAULTS: &'static [Self::Fault];
    /// How many of these a short run has.
    const SHORT: usize;

    /// Does it. The back end is back when this returns.
    async fn suffer(self, fault: Self::Fault, load: &Load) -> Self;

    /// Removes what is left of a fault, while requests go on.
    async fn mend(self, _load: &Load) -> Self {
        self
    }
}

/// Runs the load, and each fault of the plan at least once.
async fn endure<V: Victim>(mut victim: V, load: Load, plan: &Plan) {
    let started = Instant::now();
    let mut recoveries = Vec::new();
    let faults = plan.faults_of::<V>();
    for fault in faults.iter().cycle() {
        if started.elapsed() >= plan.run && recoveries.len() >= faults.len() {
            break;
        }
        rt::time::sleep(plan.gap).await;
        victim = victim.suffer(*fault, &load).await;
        recoveries.push((recovery(fault, &load, plan.gap).await, format!("{fault:?}")));
        victim = victim.mend(&load).await;
    }
    let report = load.stop().await;
    let (took, faults) = (started.elapsed(), recoveries.len());
    println!("{faults} faults in {took:?}: {report}");
    report.assert_whole();
    judge(recoveries, plan);
}

/// How long requests still failed once the back end was there again.
async fn recovery(fault: impl Debug, load: &Load, gap: Duration) -> Duration {
    let back = Instant::now();
    load.works_for(1).await;
    let first = back.elapsed();
    load.works_for(50).await;
    rt::time::sleep(gap).await;
    let last = load.failed_after(back);
    let recovered = first.max(last);
    println!(
        "{fault:?}: recovered after {} ms (the first answer after {first:?}, the last failure \
         after {last:?})",
        recovered.as_millis()
    );
    recovered
}

fn judge(mut recoveries: Vec<(Duration, String)>, plan: &Plan) {
    recoveries.sort();
    let Some((longest, fault)) = recoveries.pop() else {
        return;
    };
    println!(
        "the longest recovery took {} ms ({fault})",
        longest.as_millis()
    );
    assert!(
        plan.is_short || longest <= RECOVERY,
        "{fault}: recovered after {longest:?}, which must be {RECOVERY:?} at most"
    );
}

/// Nothing failed: nothing was done to the back end.
fn assert_undisturbed(report: &Report) {
    let broken: u64 = report.failures.range(500..).map(|(_, n)| n).sum();
    assert_eq!(broken, 0, "{report}");
    report.assert_whole();
}
