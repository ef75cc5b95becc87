//! The signatures of a store's methods, in one place.
//!
//! Pointers, wrappers, stores with a back end and the store that a URL names all take them from
//! here.

/// Forwards the methods of [`SessionStore`](crate::storage::SessionStore) to another store, for
/// wrappers.
///
/// Call it inside the `impl`. It forwards all methods, so the wrapper keeps every promise of
/// the other store. After `except`, list the methods that the wrapper implements itself.
///
/// The middleware does not call `load`, `save`, `update` or `update_ttl`, and forwarded methods call those
/// of the store inside. So a wrapper that denies or counts something implements `open`, `create`,
/// `commit` and `rotate`. One that changes what is stored, say by encryption, implements the five
/// published methods, and forwards none: it keeps what those can promise, under
/// [`V0_11`](crate::config::WireFormat::V0_11). Managers and `max_sessions` go by the store's
/// [index](crate::storage::SessionIndex), and so past the wrapper.
///
/// If a wrapper implements `open`, `create`, `commit` or `rotate`, `opens_at_once` is not forwarded,
/// and is `false`: what it does may wait, and has the time limits of a store that does. If it never
/// waits, implement `opens_at_once`, too.
///
/// # Examples
/// ```
/// use std::sync::atomic::{AtomicUsize, Ordering};
/// use actix_session::storage::{SessionKey, SessionStore};
///
/// /// Counts the endings that requests ask for. Those of managers and of `max_sessions` pass by.
/// struct Counted<S> {
///     inner: S,
///     ended: AtomicUsize,
/// }
///
/// impl<S: SessionStore> SessionStore for Counted<S> {
///     actix_session::forward_store_methods!(self => self.inner; except delete);
///
///     async fn delete(&self, session_key: &SessionKey) -> Result<(), anyhow::Error> {
///         self.ended.fetch_add(1, Ordering::Relaxed);
///         self.inner.delete(session_key).await
///     }
/// }
/// # actix_web::rt::System::new().block_on(async {
/// use actix_session::storage::{MemorySessionStore, generate_session_key};
///
/// let store = Counted { inner: MemorySessionStore::new(), ended: AtomicUsize::new(0) };
/// store.delete(&generate_session_key()).await.unwrap();
/// assert_eq!(store.ended.into_inner(), 1);
/// # });
/// ```
#[macro_export]
macro_rules! forward_store_methods {
    ($self:ident => $store:expr $(; except $($method:ident),+ $(,)?)?) => {
        $crate::__store_methods! { [$($($method)+)?] $self [$crate::__forward_to] [$store] }
    };
}

/// `[methods to leave out] self [macro that makes the body] [its argument]`
#[doc(hidden)]
#[macro_export]
macro_rules! __store_methods {
    ([$($except:ident)*] $self:ident $call:tt $with:tt) => {
        $crate::__store_method! { load [$($except)*] $self $call $with }
        $crate::__store_method! { save [$($except)*] $self $call $with }
        $crate::__store_method! { update [$($except)*] $self $call $with }
        $crate::__store_method! { update_ttl [$($except)*] $self $call $with }
        $crate::__store_method! { delete [$($except)*] $self $call $with }
        $crate::__store_method! { open [$($except)*] $self $call $with }
        $crate::__store_method! { create [$($except)*] $self $call $with }
        $crate::__store_method! { commit [$($except)*] $self $call $with }
        $crate::__store_method! { rotate [$($except)*] $self $call $with }
        $crate::__store_method! { opens_at_once [$($except)*] $self $call $with }
        $crate::__store_method! { knows_ends [$($except)*] $self $call $with }
        $crate::__store_method! { watch [$($except)*] $self $call $with }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __store_method {
    (load [load $($rest:ident)*] $($more:tt)*) => {};
    (save [save $($rest:ident)*] $($more:tt)*) => {};
    (update [update $($rest:ident)*] $($more:tt)*) => {};
    (update_ttl [update_ttl $($rest:ident)*] $($more:tt)*) => {};
    (delete [delete $($rest:ident)*] $($more:tt)*) => {};
    (open [open $($rest:ident)*] $($more:tt)*) => {};
    (create [create $($rest:ident)*] $($more:tt)*) => {};
    (commit [commit $($rest:ident)*] $($more:tt)*) => {};
    (rotate [rotate $($rest:ident)*] $($more:tt)*) => {};
    (opens_at_once [opens_at_once $($rest:ident)*] $($more:tt)*) => {};
    // What a wrapper does itself may wait.
    (opens_at_once [open $($rest:ident)*] $($more:tt)*) => {};
    (opens_at_once [create $($rest:ident)*] $($more:tt)*) => {};
    (opens_at_once [commit $($rest:ident)*] $($more:tt)*) => {};
    (opens_at_once [rotate $($rest:ident)*] $($more:tt)*) => {};
    (knows_ends [knows_ends $($rest:ident)*] $($more:tt)*) => {};
    (watch [watch $($rest:ident)*] $($more:tt)*) => {};
    ($method:ident [$other:ident $($rest:ident)*] $($more:tt)*) => {
        $crate::__store_method! { $method [$($rest)*] $($more)* }
    };
    (load [] $self:ident [$($call:tt)*] $with:tt) => {
        fn load(
            &$self,
            session_key: &$crate::storage::SessionKey,
        ) -> impl ::std::future::Future<Output = Result<Option<$crate::__private::HashMap<String, String>>, $crate::storage::LoadError>> {
            $($call)*!($with $self.load(session_key))
        }
    };
    (save [] $self:ident [$($call:tt)*] $with:tt) => {
        fn save(
            &$self,
            session_state: $crate::__private::HashMap<String, String>,
            ttl: &$crate::__private::Duration,
        ) -> impl ::std::future::Future<Output = Result<$crate::storage::SessionKey, $crate::storage::SaveError>> {
            $($call)*!($with $self.save(session_state, ttl))
        }
    };
    (update [] $self:ident [$($call:tt)*] $with:tt) => {
        fn update(
            &$self,
            session_key: $crate::storage::SessionKey,
            session_state: $crate::__private::HashMap<String, String>,
            ttl: &$crate::__private::Duration,
        ) -> impl ::std::future::Future<Output = Result<$crate::storage::SessionKey, $crate::storage::UpdateError>> {
            $($call)*!($with $self.update(session_key, session_state, ttl))
        }
    };
    (update_ttl [] $self:ident [$($call:tt)*] $with:tt) => {
        fn update_ttl(
            &$self,
            session_key: &$crate::storage::SessionKey,
            ttl: &$crate::__private::Duration,
        ) -> impl ::std::future::Future<Output = Result<(), $crate::__private::AnyError>> {
            $($call)*!($with $self.update_ttl(session_key, ttl))
        }
    };
    (delete [] $self:ident [$($call:tt)*] $with:tt) => {
        fn delete(
            &$self,
            session_key: &$crate::storage::SessionKey,
        ) -> impl ::std::future::Future<Output = Result<(), $crate::__private::AnyError>> {
            $($call)*!($with $self.delete(session_key))
        }
    };
    (open [] $self:ident [$($call:tt)*] $with:tt) => {
        fn open(
            &$self,
            session_key: &$crate::storage::SessionKey,
            terms: &$crate::storage::Terms,
        ) -> impl ::std::future::Future<Output = Result<$crate::storage::Opened, $crate::storage::LoadError>> {
            $($call)*!($with $self.open(session_key, terms))
        }
    };
    (create [] $self:ident [$($call:tt)*] $with:tt) => {
        fn create(
            &$self,
            changes: &$crate::storage::Changes,
            terms: &$crate::storage::Terms,
        ) -> impl ::std::future::Future<Output = Result<($crate::storage::SessionKey, $crate::storage::End), $crate::storage::CommitError>> {
            $($call)*!($with $self.create(changes, terms))
        }
    };
    (commit [] $self:ident [$($call:tt)*] $with:tt) => {
        fn commit(
            &$self,
            session_key: &$crate::storage::SessionKey,
            base: Option<&$crate::storage::Record>,
            changes: &$crate::storage::Changes,
            terms: &$crate::storage::Terms,
        ) -> impl ::std::future::Future<Output = Result<$crate::storage::Committed, $crate::storage::CommitError>> {
            $($call)*!($with $self.commit(session_key, base, changes, terms))
        }
    };
    (rotate [] $self:ident [$($call:tt)*] $with:tt) => {
        fn rotate(
            &$self,
            session_key: &$crate::storage::SessionKey,
            base: Option<&$crate::storage::Record>,
            changes: &$crate::storage::Changes,
            terms: &$crate::storage::Terms,
        ) -> impl ::std::future::Future<Output = Result<$crate::storage::Rotated, $crate::storage::CommitError>> {
            $($call)*!($with $self.rotate(session_key, base, changes, terms))
        }
    };
    (opens_at_once [] $self:ident [$($call:tt)*] $with:tt) => {
        fn opens_at_once(&$self) -> bool {
            $($call)*!($with $self.opens_at_once())
        }
    };
    (knows_ends [] $self:ident [$($call:tt)*] $with:tt) => {
        fn knows_ends(&$self) -> bool {
            $($call)*!($with $self.knows_ends())
        }
    };
    (watch [] $self:ident [$($call:tt)*] $with:tt) => {
        fn watch(
            &$self,
            session_key: &$crate::storage::SessionKey,
            watch: $crate::storage::Watch,
            terms: &$crate::storage::Terms,
        ) -> impl ::std::future::Future<Output = ()> {
            $($call)*!($with $self.watch(session_key, watch, terms))
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __forward_to {
    ([$store:expr] $self:ident.$method:ident($($argument:expr),*)) => {
        $store.$method($($argument),*)
    };
}
