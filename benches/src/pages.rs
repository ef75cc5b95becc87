//! The pages of an application, whatever the framework, and what is done with them.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rustix::param::page_size;
use rustix::time::{ClockId, clock_gettime};

use crate::case::{Case, Kind, Route};
use crate::seed::COUNTER;

/// An application in this process, asked without a network.
pub(crate) trait Pages {
    /// The framework's type for the value of a header.
    type Header: Clone;
    /// The framework's response.
    type Answer;

    /// Makes one request. An answer that is no success is an error.
    async fn ask(
        &mut self,
        path: &'static str,
        cookie: Option<&Self::Header>,
    ) -> anyhow::Result<Self::Answer>;

    fn set_cookie(answer: &Self::Answer) -> Option<&Self::Header>;

    async fn body(answer: Self::Answer) -> anyhow::Result<String>;

    fn header(bytes: &[u8]) -> anyhow::Result<Self::Header>;

    fn bytes(header: &Self::Header) -> &[u8];
}

/// What an application without sessions gets for a cookie, and reads as a new one: as long as that
/// of a store which is not the cookie itself.
const SAMPLE: &str = "id=MDEyMzQ1Njc4OWFiY2RlZmdoaWprbG1ub3BxcnN0dXZ3eHl6MDEyMzQ1Njc4OWFiY2RlZmdo\
    aWprbG1ub3BxcnN0dXZ3eHl6MDEyMzQ1Njc4OWFiY2RlZg; HttpOnly; SameSite=Lax; Secure; Path=/";

/// Makes `n` requests of a case, after it has made the session that they are about. Returns the CPU
/// time of all.
pub(crate) async fn repeat<P: Pages>(
    mut pages: P,
    case: &Case,
    n: u32,
) -> anyhow::Result<Duration> {
    let sample = P::header(SAMPLE.as_bytes())?;
    // The framework's own share has the loop's work in it.
    let sample = case.peer.is_bare().then_some(&sample);
    let mut cookie = match (case.cookie, sample) {
        (false, _) => None,
        (true, Some(sample)) => Some(pair::<P>(sample)?),
        (true, None) => Some(checked(&mut pages).await?),
    };
    let (mut last, before) = (None, cpu_time());
    for _ in 0..n {
        let answer = pages.ask(case.route.path(), cookie.as_ref()).await?;
        if case.follows() {
            let set = P::set_cookie(&answer).or(sample);
            cookie = Some(pair::<P>(set.context("a renewal set no cookie")?)?);
        }
        last = Some(answer);
    }
    let took = cpu_time() - before;
    if let Some(last) = last {
        judge(case, n, &P::body(last).await?)?;
    }
    Ok(took)
}

/// Makes a session and returns its cookie, having seen that it opens.
async fn checked<P: Pages>(pages: &mut P) -> anyhow::Result<P::Header> {
    let cookie = new_session(pages).await?;
    let read = P::body(pages.ask("/read", Some(&cookie)).await?).await?;
    ensure!(read == READ, "/read found {read:?}");
    Ok(cookie)
}

async fn new_session<P: Pages>(pages: &mut P) -> anyhow::Result<P::Header> {
    let answer = pages.ask("/seed", None).await?;
    pair::<P>(P::set_cookie(&answer).context("the new session has no cookie")?)
}

/// The `Cookie` header for a `Set-Cookie` header.
fn pair<P: Pages>(set: &P::Header) -> anyhow::Result<P::Header> {
    let bytes = P::bytes(set);
    let end = bytes.iter().position(|byte| *byte == b';');
    P::header(&bytes[..end.unwrap_or(bytes.len())])
}

/// The answer of `/read`.
const READ: &str = "Ada Lovelace 1842";

/// A peer that did nothing would be the fastest: looks at the last answer.
fn judge(case: &Case, n: u32, body: &str) -> anyhow::Result<()> {
    let has_session = case.cookie && !case.peer.is_bare();
    // A cookie that is sent again counts from where it did.
    let is_cookie = case.store.kind == Kind::Cookie;
    let writes = if is_cookie { 1 } else { i64::from(n) };
    let expected = match case.route {
        Route::Read if has_session => READ.to_owned(),
        Route::Read => " 0".to_owned(),
        Route::Write if has_session => (COUNTER + writes).to_string(),
        Route::Write => "1".to_owned(),
        Route::Static | Route::Login => "ok".to_owned(),
    };
    ensure!(body == expected, "{body:?} must be {expected:?}");
    Ok(())
}

/// What a store full of sessions costs.
#[derive(Debug, Clone, Copy)]
pub struct Filled {
    /// The memory of this process for one session, in bytes.
    pub bytes: u64,
    /// The CPU time of reading a session chosen at random.
    pub read: Duration,
    /// The longest time that anybody waited for a new session once the store was full.
    pub longest: Duration,
}

/// Makes `n` sessions, reads some of them, and makes some more.
pub(crate) async fn fill<P: Pages>(mut pages: P, n: u32) -> anyhow::Result<Filled> {
    const SAMPLES: u32 = 20_000;
    let mut cookies = Vec::new();
    // Whatever is set up once is there before anything is counted.
    checked(&mut pages).await?;
    let every = (n / SAMPLES).max(1);
    let before = resident()?;
    for number in 0..n {
        let cookie = new_session(&mut pages).await?;
        if number % every == 0 {
            cookies.push(cookie);
        }
    }
    let bytes = resident()?.saturating_sub(before) / u64::from(n.max(1));
    let read = read_all(&mut pages, &cookies).await?;
    let mut longest = Duration::ZERO;
    for _ in 0..SAMPLES {
        let started = Instant::now();
        new_session(&mut pages).await?;
        longest = longest.max(started.elapsed());
    }
    Ok(Filled {
        bytes,
        read,
        longest,
    })
}

/// The CPU time of one of these requests, in an order that no cache expects.
async fn read_all<P: Pages>(pages: &mut P, cookies: &[P::Header]) -> anyhow::Result<Duration> {
    let before = cpu_time();
    let count = u32::try_from(cookies.len())?.max(1);
    for n in 0..cookies.len() {
        let cookie = &cookies[n.wrapping_mul(2_654_435_761) % cookies.len()];
        pages.ask("/read", Some(cookie)).await?;
    }
    Ok((cpu_time() - before) / count)
}

/// What this process has used of all processors.
pub(crate) fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or_default();
    Duration::new(seconds, nanoseconds)
}

/// The memory of this process, in bytes.
fn resident() -> anyhow::Result<u64> {
    let statm = fs::read_to_string("/proc/self/statm")?;
    let pages = statm
        .split(' ')
        .nth(1)
        .context("/proc/self/statm has one field")?;
    Ok(pages.parse::<u64>()? * u64::try_from(page_size())?)
}
