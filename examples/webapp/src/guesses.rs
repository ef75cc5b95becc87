//! Slows down whoever guesses passwords.
//!
//! Only wrong passwords count, so nobody is refused for logging in often. (The usual limiters count
//! calls, and cannot look without counting.) The address counts too, not the name alone: otherwise
//! anybody could lock a user out by guessing wrong on purpose.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher as _, RandomState},
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

/// How long a wrong password counts.
const WINDOW: Duration = Duration::from_secs(15 * 60);

/// How many wrong passwords one address may send for one name: the sixth is refused.
const MAX_FOR_NAME: usize = 5;

/// How many wrong passwords one address may send for all names: the thirtieth is refused.
const MAX_FOR_ADDRESS: usize = 29;

/// How many addresses are remembered. It bounds the memory at about ten megabytes.
const MAX_ADDRESSES: usize = 10_000;

/// The wrong passwords of the last minutes, by the address that they came from.
#[derive(Debug, Default)]
pub(crate) struct Guesses {
    addresses: Mutex<HashMap<IpAddr, Arc<AsyncMutex<Recent>>>>,
    hasher: RandomState,
}

/// A password that is being verified. It counts as wrong unless [`Guess::was_right`] is called, even
/// if the client hangs up meanwhile.
///
/// While it lives, the same address waits with its next one, so guesses that come all at once are
/// counted like others.
#[derive(Debug)]
pub(crate) struct Guess(OwnedMutexGuard<Recent>);

impl Guesses {
    /// Begins a guess, or says how long this address must wait.
    pub(crate) async fn begin(&self, from: IpAddr, name: &str) -> Result<Guess, Duration> {
        let recent = self.of(network(from), Instant::now());
        let mut recent = recent.lock_owned().await;
        let name = self.hasher.hash_one(name.to_ascii_lowercase());
        let now = Instant::now();
        if let Some(wait) = recent.wait(name, now) {
            return Err(wait);
        }
        recent.count(name, now);
        Ok(Guess(recent))
    }

    fn of(&self, from: IpAddr, now: Instant) -> Arc<AsyncMutex<Recent>> {
        let addresses = self.addresses.lock();
        let mut addresses = addresses.unwrap_or_else(PoisonError::into_inner);
        if addresses.len() >= MAX_ADDRESSES && !addresses.contains_key(&from) {
            make_room(&mut addresses, now);
        }
        Arc::clone(addresses.entry(from).or_default())
    }
}

impl Guess {
    pub(crate) fn was_right(mut self) {
        self.0.0.pop_back();
    }
}

/// Forgets the addresses that no longer count. If all do, any of them goes: an attacker with that
/// many addresses has as many guesses anyway.
fn make_room(addresses: &mut HashMap<IpAddr, Arc<AsyncMutex<Recent>>>, now: Instant) {
    addresses.retain(|_, recent| recent.try_lock().map_or(true, |recent| recent.counts(now)));
    if addresses.len() >= MAX_ADDRESSES {
        let any = addresses.keys().next().copied();
        any.and_then(|any| addresses.remove(&any));
    }
}

/// The wrong passwords of one address, oldest first: when, and a hash of the name.
#[derive(Debug, Default)]
struct Recent(VecDeque<(Instant, u64)>);

impl Recent {
    /// How long a guess for this name must wait, if it must.
    fn wait(&mut self, name: u64, now: Instant) -> Option<Duration> {
        self.0.retain(|(at, _)| now.duration_since(*at) < WINDOW);
        let of_name = self.0.iter().filter(|(_, of)| *of == name);
        let all = self.0.iter();
        [
            oldest_if(of_name, MAX_FOR_NAME),
            oldest_if(all, MAX_FOR_ADDRESS),
        ]
        .into_iter()
        .flatten()
        .map(|oldest| WINDOW.saturating_sub(now.duration_since(oldest)))
        .max()
    }

    fn count(&mut self, name: u64, now: Instant) {
        self.0.push_back((now, name));
    }

    fn counts(&self, now: Instant) -> bool {
        let last = self.0.back();
        last.is_some_and(|(at, _)| now.duration_since(*at) < WINDOW)
    }
}

/// When the oldest happened, if there are as many as the limit.
fn oldest_if<'a>(
    guesses: impl Iterator<Item = &'a (Instant, u64)> + Clone,
    limit: usize,
) -> Option<Instant> {
    let (oldest, _) = *guesses.clone().next()?;
    (guesses.count() >= limit).then_some(oldest)
}

/// The address as it is counted. Whoever has an IPv6 address has 2^64 of them, so these count as one.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64)).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const ADA: u64 = 1;

    #[test]
    fn the_sixth_wrong_password_for_a_name_waits_until_the_first_is_old() {
        let (start, mut recent) = (Instant::now(), Recent::default());
        for minute in 0..5 {
            let now = start + minute * MINUTE;
            assert_eq!(recent.wait(ADA, now), None);
            recent.count(ADA, now);
        }
        assert_eq!(recent.wait(ADA, start + 5 * MINUTE), Some(10 * MINUTE));
        assert_eq!(recent.wait(2, start + 5 * MINUTE), None, "another name");
        assert_eq!(recent.wait(ADA, start + 15 * MINUTE), None);
        recent.count(ADA, start + 15 * MINUTE);
        assert_eq!(recent.wait(ADA, start + 15 * MINUTE), Some(MINUTE));
    }

    #[test]
    fn the_thirtieth_wrong_password_waits_whatever_the_name() {
        let (now, mut recent) = (Instant::now(), Recent::default());
        for name in 0..29 {
            assert_eq!(recent.wait(name, now), None);
            recent.count(name, now);
        }
        assert_eq!(recent.wait(29, now), Some(WINDOW));
        assert_eq!(recent.wait(29, now + WINDOW), None);
    }

    #[actix_web::test]
    async fn right_passwords_and_other_addresses_do_not_count() {
        let guesses = Guesses::default();
        let (here, there) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        for _ in 0..50 {
            guesses.begin(here, "ada").await.unwrap().was_right();
        }
        for _ in 0..5 {
            drop(guesses.begin(here, "ada").await.unwrap());
        }
        assert!(guesses.begin(here, "Ada").await.is_err());
        assert!(guesses.begin(there, "ada").await.is_ok());
    }

    #[actix_web::test]
    async fn guesses_that_come_all_at_once_are_counted_one_by_one() {
        let guesses = Guesses::default();
        let guess = async || guesses.begin([192, 0, 2, 1].into(), "ada").await.is_ok();
        let all = (0..50).map(|_| guess());
        let allowed = futures_util::future::join_all(all).await;
        assert_eq!(allowed.into_iter().filter(|ok| *ok).count(), 5);
    }

    #[test]
    fn addresses_of_one_network_count_as_one() {
        let v6 = |text: &str| network(text.parse().unwrap());
        assert_eq!(v6("2001:db8:0:1::1"), v6("2001:db8:0:1:ffff::2"));
        assert_ne!(v6("2001:db8:0:1::1"), v6("2001:db8:0:2::1"));
        assert_eq!(v6("::ffff:192.0.2.1"), IpAddr::from([192, 0, 2, 1]));
    }

    #[actix_web::test]
    async fn the_number_of_addresses_is_bounded_and_those_that_count_stay_longest() {
        let guesses = Guesses::default();
        let attacker = IpAddr::from([192, 0, 2, 1]);
        for _ in 0..5 {
            drop(guesses.begin(attacker, "ada").await.unwrap());
        }
        for number in 0..2 * u32::try_from(MAX_ADDRESSES).unwrap() {
            let visitor = IpAddr::from((0x0a00_0000 | number).to_be_bytes());
            guesses.begin(visitor, "ada").await.unwrap().was_right();
        }
        assert!(guesses.begin(attacker, "ada").await.is_err());
        for number in 0..50 + u32::try_from(MAX_ADDRESSES).unwrap() {
            let attacker = IpAddr::from((0x0b00_0000 | number).to_be_bytes());
            drop(guesses.begin(attacker, "ada").await.unwrap());
        }
        assert_eq!(guesses.addresses.lock().unwrap().len(), MAX_ADDRESSES);
    }
}
