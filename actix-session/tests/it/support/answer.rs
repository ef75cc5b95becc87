//! A response, and what it says of the session cookie.

use actix_web::{
    Error,
    body::to_bytes,
    cookie::Cookie,
    dev::ServiceResponse,
    http::{
        StatusCode,
        header::{HeaderMap, SET_COOKIE},
    },
    web::Bytes,
};

/// A response as it was read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// The service answered `Err`, which the server makes a response of.
    pub(crate) failed: bool,
}

impl Answer {
    pub(super) async fn of(result: Result<ServiceResponse, Error>) -> Self {
        let failed = result.is_err();
        let response = match result {
            Ok(response) => response.into_parts().1,
            Err(error) => error.error_response(),
        };
        Self {
            status: response.status(),
            headers: response.headers().clone(),
            body: to_bytes(response.into_body()).await.unwrap(),
            failed,
        }
    }

    pub(crate) fn cookies(&self) -> Vec<Cookie<'_>> {
        let fields = self.headers.get_all(SET_COOKIE);
        fields
            .map(|field| Cookie::parse(field.to_str().unwrap()).unwrap())
            .collect()
    }

    /// The session cookie that it sets or removes.
    pub(crate) fn cookie(&self) -> Option<Cookie<'_>> {
        let mut cookies = self.cookies();
        assert!(cookies.len() <= 1, "one Set-Cookie a response: {cookies:?}");
        cookies.pop()
    }

    #[track_caller]
    pub(crate) fn assert_ok(&self) -> &Self {
        assert_eq!(self.status, StatusCode::OK, "{self:?}");
        self
    }

    /// An empty 500.
    #[track_caller]
    pub(crate) fn assert_opaque(&self) -> &Self {
        assert_eq!(self.status, StatusCode::INTERNAL_SERVER_ERROR, "{self:?}");
        assert!(self.body.is_empty(), "{self:?}");
        self.assert_no_cookie()
    }

    #[track_caller]
    pub(crate) fn assert_no_cookie(&self) -> &Self {
        assert!(self.cookies().is_empty(), "{self:?}");
        self
    }

    #[track_caller]
    pub(crate) fn assert_sets_cookie(&self) -> &Self {
        let cookie = self.cookie();
        assert!(cookie.is_some_and(|c| !is_removal(&c)), "{self:?}");
        self
    }

    #[track_caller]
    pub(crate) fn assert_removes_cookie(&self) -> &Self {
        let cookie = self.cookie();
        assert!(cookie.is_some_and(|c| is_removal(&c)), "{self:?}");
        self
    }

    /// Whole seconds of the cookie's `Max-Age`.
    pub(crate) fn max_age(&self) -> Option<i64> {
        Some(self.cookie()?.max_age()?.whole_seconds())
    }
}

pub(super) fn is_removal(cookie: &Cookie<'_>) -> bool {
    cookie.value().is_empty() && cookie.max_age().is_some_and(|age| age.is_zero())
}
