use super::Tickets;
use super::dial::Dial;
use super::http::{ANSWER, Place, collect};
use apex_core::clock::Timestamp;
use apex_core::config::Secret;
use apex_core::error::{Error, Kind, Result};
use apex_core::file::FileInfo;
use apex_core::id::{ArtifactId, RunId, ThreadId, UserId};
use apex_core::thread::{Paged, Share, Thread};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::unfold;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Method, Request};
use http_body_util::{Full, StreamBody};
use hyper::body::Frame;
use parking_lot::Mutex;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _};

const OPERATION: &str = "client.api";

/// The largest JSON answer that is read.
const MAX_JSON: usize = 8 * 1024 * 1024;

/// The largest artifact that is read.
const MAX_ARTIFACT: usize = apex_core::file::MAX_ARTIFACT;

/// How much of a file is read at a time.
const PIECE: usize = 64 * 1024;

/// How long bringing a file may take.
const UPLOAD: Duration = Duration::from_secs(6 * 60 * 60);

/// The HTTP routes of one service, as one user.
#[derive(Clone)]
pub struct Api {
    url: String,
    place: Place,
    login: Option<Arc<Held>>,
}

/// A login.
#[derive(Clone)]
pub struct Login {
    /// The token.
    pub token: Secret<String>,
    /// When it runs out.
    pub expires_at: Timestamp,
    /// What renews it, once; `None` for a login that ends with its token.
    pub refresh: Option<Secret<String>>,
}

/// The login that all clones of an [`Api`] share. It is renewed by one of them at a time, since a refresh token that
/// is used twice ends its login.
#[derive(Debug)]
struct Held {
    login: Mutex<Login>,
    renewing: tokio::sync::Mutex<()>,
}

/// A login as the service tells it.
#[derive(Deserialize)]
struct LoginBody {
    token: Secret<String>,
    expires_at: Timestamp,
    refresh: Option<Secret<String>>,
}

impl From<LoginBody> for Login {
    fn from(body: LoginBody) -> Self {
        Self { token: body.token, expires_at: body.expires_at, refresh: body.refresh }
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Login(… until {})", self.expires_at)
    }
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Api({}, {:?})", self.url, self.login)
    }
}

impl Api {
    /// The service at `http://host[:port][/prefix]`, before a login.
    ///
    /// # Errors
    /// `bad_request` for an address that is none.
    pub fn new(url: &str) -> Result<Self> {
        Ok(Self { url: url.to_owned(), place: Place::parse(url)?, login: None })
    }

    /// The same service, to which `dial` leads instead of TCP.
    #[must_use]
    pub fn with_dial(mut self, dial: Arc<dyn Dial>) -> Self {
        self.place.dial = dial;
        self
    }

    pub(super) fn dial(&self) -> Arc<dyn Dial> {
        Arc::clone(&self.place.dial)
    }

    /// The address.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The same service with a login that was made elsewhere.
    #[must_use]
    pub fn with_login(mut self, login: Login) -> Self {
        let (login, renewing) = (Mutex::new(login), tokio::sync::Mutex::new(()));
        self.login = Some(Arc::new(Held { login, renewing }));
        self
    }

    /// The login as it is now, for who keeps it.
    #[must_use]
    pub fn login(&self) -> Option<Login> {
        self.login.as_ref().map(|held| held.login.lock().clone())
    }

    /// Logs in by the development login.
    ///
    /// # Errors
    /// `not_found` where the environment is not development.
    pub async fn log_in(self, user: &str) -> Result<Self> {
        let asked = serde_json::json!({ "user": user });
        let body: LoginBody = self.json(Method::POST, "/auth/dev", Some(&asked)).await?;
        Ok(self.with_login(body.into()))
    }

    /// Renews the login: both of its tokens are replaced. A token that has run out is renewed by itself at the next
    /// request.
    ///
    /// # Errors
    /// `unauthenticated` where there is nothing to renew by, or the login has ended.
    pub async fn renew(&self) -> Result<()> {
        self.renew_after(self.token().as_ref()).await
    }

    /// Renews the login unless that was done since `used` was its token.
    async fn renew_after(&self, used: Option<&Secret<String>>) -> Result<()> {
        let nothing = || {
            let told = "there is no login that could be renewed; log in";
            Error::new(Kind::Unauthenticated, OPERATION, told)
        };
        let held = self.login.as_ref().ok_or_else(nothing)?;
        let _turn = held.renewing.lock().await;
        let refresh = {
            let login = held.login.lock();
            if used.is_none_or(|used| used.reveal() != login.token.reveal()) {
                return Ok(());
            }
            login.refresh.clone().ok_or_else(nothing)?
        };
        let asked = serde_json::json!({ "refresh": refresh.reveal() });
        let renewing = self.exchange(None, Method::POST, "/auth/refresh", Some(&asked), MAX_JSON);
        let body: LoginBody = decoded(&renewing.await?)?;
        *held.login.lock() = body.into();
        Ok(())
    }

    fn token(&self) -> Option<Secret<String>> {
        self.login().map(|login| login.token)
    }

    /// Brings a file; `progress` is told the bytes sent so far. The body streams: the file is never held whole.
    ///
    /// # Errors
    /// What the server says; what reading says.
    pub async fn upload<R, P>(
        &self,
        name: &str,
        length: Option<u64>,
        file: R,
        progress: P,
    ) -> Result<FileInfo>
    where
        R: AsyncRead + Send + Unpin + 'static,
        P: FnMut(u64) + Send + 'static,
    {
        let body = StreamBody::new(unfold(Some((file, 0_u64, progress)), |state| async move {
            let (mut file, so_far, mut progress) = state?;
            let mut piece = vec![0; PIECE];
            match file.read(&mut piece).await {
                Ok(0) => None,
                Ok(read) => {
                    piece.truncate(read);
                    let so_far = so_far + read as u64;
                    progress(so_far);
                    let frame = Frame::data(Bytes::from(piece));
                    Some((Ok(frame), Some((file, so_far, progress))))
                }
                Err(error) => Some((Err(error), None)),
            }
        }));
        // A body is sent once, so whether the login holds is asked before.
        if self.login().is_some_and(|login| login.refresh.is_some()) {
            self.send(Method::GET, "/auth/sessions", None).await?;
        }
        let mut request = request(Method::POST, self.token().as_ref())?
            .header("x-file-name", percent_encoded(name));
        if let Some(length) = length {
            request = request.header(CONTENT_LENGTH, length);
        }
        let response = self.place.send("/files", request, body, UPLOAD).await?;
        decoded(&collect(response.into_body(), MAX_JSON).await?)
    }

    /// A report of a run: `report.json`, `report.md` or `report.html`.
    ///
    /// # Errors
    /// `not_found`.
    pub async fn report(&self, run: RunId, name: &str) -> Result<Bytes> {
        self.bytes(&format!("/runs/{run}/{name}")).await
    }

    /// An artifact of a run.
    ///
    /// # Errors
    /// `not_found`.
    pub async fn artifact(&self, artifact: ArtifactId) -> Result<Bytes> {
        self.bytes(&format!("/artifacts/{artifact}")).await
    }

    /// The first page of the user's conversations.
    ///
    /// # Errors
    /// What the server says.
    pub async fn threads(&self) -> Result<Paged<Thread>> {
        self.json(Method::GET, "/threads", None).await
    }

    /// Deletes a conversation with its runs and what they made.
    ///
    /// # Errors
    /// `not_found`; `conflict` while one of its runs has not ended.
    pub async fn delete_thread(&self, thread: ThreadId) -> Result<()> {
        let route = format!("/threads/{thread}");
        self.send(Method::DELETE, &route, None).await.map(drop)
    }

    /// The first page of the conversations that others share with the user.
    ///
    /// # Errors
    /// What the server says.
    pub async fn shared_threads(&self) -> Result<Paged<Thread>> {
        self.json(Method::GET, "/threads?shared=true", None).await
    }

    /// Lets another user read a conversation and follow its runs.
    ///
    /// # Errors
    /// `not_found` for one that is not the user's own; `too_large` with too many.
    pub async fn share(&self, thread: ThreadId, with: UserId) -> Result<()> {
        let body = serde_json::json!({ "user": with });
        self.send(Method::POST, &format!("/threads/{thread}/shares"), Some(&body)).await.map(drop)
    }

    /// Takes that back, or ends it as the user with whom it is shared.
    ///
    /// # Errors
    /// `not_found` where it is not shared.
    pub async fn unshare(&self, thread: ThreadId, with: UserId) -> Result<()> {
        self.send(Method::DELETE, &format!("/threads/{thread}/shares/{with}"), None).await.map(drop)
    }

    /// With whom a conversation is shared.
    ///
    /// # Errors
    /// `not_found` for one that is not the user's own.
    pub async fn shares(&self, thread: ThreadId) -> Result<Vec<Share>> {
        #[derive(Deserialize)]
        struct Body {
            items: Vec<Share>,
        }
        let body: Body = self.json(Method::GET, &format!("/threads/{thread}/shares"), None).await?;
        Ok(body.items)
    }

    /// Ends the login, and with it every connection that came by it.
    ///
    /// # Errors
    /// What the server says.
    pub async fn log_out(&self) -> Result<()> {
        self.send(Method::POST, "/auth/logout", None).await.map(drop)
    }

    async fn bytes(&self, route: &str) -> Result<Bytes> {
        self.send_for(Method::GET, route, None, MAX_ARTIFACT).await
    }

    async fn json<T: DeserializeOwned>(
        &self,
        method: Method,
        route: &str,
        body: Option<&Value>,
    ) -> Result<T> {
        decoded(&self.send(method, route, body).await?)
    }

    async fn send(&self, method: Method, route: &str, body: Option<&Value>) -> Result<Bytes> {
        self.send_for(method, route, body, MAX_JSON).await
    }

    /// Asks; a login that has run out is renewed, once.
    async fn send_for(
        &self,
        method: Method,
        route: &str,
        body: Option<&Value>,
        limit: usize,
    ) -> Result<Bytes> {
        let token = self.token();
        let answer = self.exchange(token.as_ref(), method.clone(), route, body, limit).await;
        let over =
            |error: &Error| matches!(error.kind(), Kind::Unauthenticated | Kind::TokenExpired);
        if !answer.as_ref().is_err_and(over)
            || self.login().is_none_or(|login| login.refresh.is_none())
        {
            return answer;
        }
        self.renew_after(token.as_ref()).await?;
        self.exchange(self.token().as_ref(), method, route, body, limit).await
    }

    async fn exchange(
        &self,
        token: Option<&Secret<String>>,
        method: Method,
        route: &str,
        body: Option<&Value>,
        limit: usize,
    ) -> Result<Bytes> {
        let mut request = request(method, token)?;
        let body = match body {
            Some(body) => {
                request = request.header(CONTENT_TYPE, "application/json");
                Full::new(Bytes::from(body.to_string()))
            }
            None => Full::default(),
        };
        let response = self.place.send(route, request, body, ANSWER).await?;
        collect(response.into_body(), limit).await
    }
}

fn request(method: Method, token: Option<&Secret<String>>) -> Result<http::request::Builder> {
    let mut request = Request::builder().method(method);
    if let Some(token) = token {
        let value = format!("Bearer {}", token.reveal());
        let mut value = HeaderValue::from_str(&value)
            .map_err(|_| Error::new(Kind::BadRequest, OPERATION, "the token is no header value"))?;
        value.set_sensitive(true);
        request = request.header(AUTHORIZATION, value);
    }
    Ok(request)
}

#[async_trait]
impl Tickets for Api {
    async fn ticket(&self) -> Result<Secret<String>> {
        #[derive(Deserialize)]
        struct Body {
            ticket: String,
        }
        let body: Body = self.json(Method::POST, "/auth/ticket", None).await?;
        Ok(Secret::new(body.ticket))
    }

    async fn token(&self) -> Result<Secret<String>> {
        let none = || Error::new(Kind::Unauthenticated, OPERATION, "there is no login; log in");
        Self::token(self).ok_or_else(none)
    }

    async fn lasting_ticket(&self) -> Result<Secret<String>> {
        if self.login().is_some_and(|login| login.refresh.is_some()) {
            self.renew().await?;
        }
        self.ticket().await
    }
}

fn decoded<T: DeserializeOwned>(body: &[u8]) -> Result<T> {
    // The parser's words could repeat a token.
    serde_json::from_slice(body).map_err(|_| {
        Error::new(
            Kind::Unavailable,
            OPERATION,
            "the answer is not what this route answers; is this the right service?",
        )
    })
}

fn percent_encoded(name: &str) -> String {
    name.bytes().fold(String::new(), |mut text, byte| {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            // Writing into a string cannot fail.
            let _ = write!(text, "%{byte:02X}");
        }
        text
    })
}
