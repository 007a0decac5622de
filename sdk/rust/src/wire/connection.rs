//! One ordered connection to a broker: requests go out as they come, answers come back in the same order.
//!
//! Two tasks serve it: one writes, one reads. They end together, with the connection. A caller that drops its
//! future takes nothing back: the answer is read, and let go of.

use std::collections::VecDeque;
use std::io;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{MetadataRequest, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Encodable, HeaderVersion, Request, StrBytes};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Notify, oneshot};

use crate::error::{Error, Result};
use crate::transport::Stream;
use crate::wire::versions::name_of;
use crate::wire::{Versions, decode};

/// Bytes of an answer. Brokers are asked for less; what claims more is no answer.
const MAX_FRAME: usize = 1 << 30;
/// What is read at once of an answer, so that memory follows what has come, and not what is claimed.
const READ_STEP: usize = 1 << 20;

/// A connection. Cheap to clone; all clones are one.
#[derive(Clone)]
pub(crate) struct Connection {
    shared: Arc<Shared>,
    held: Arc<Held>,
}

/// The last handle that is dropped ends the connection, whose tasks would go on otherwise.
struct Held(Arc<Shared>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.end(self.0.gone("nobody uses it any more"));
    }
}

struct Shared {
    broker: String,
    client_id: StrBytes,
    timeout: Duration,
    versions: OnceLock<Versions>,
    state: Mutex<State>,
    wake: Notify, // the writer has something to do
    dead: AtomicBool,
    ended: Notify, // told to the reader when the connection is ended from here
}

/// Guarded by `Shared::state`; never held across an await.
#[derive(Default)]
struct State {
    correlation: i32,
    outgoing: VecDeque<Bytes>,
    waiting: VecDeque<Waiting>, // for answers, in the order of the requests
    retiring: bool,
    failure: Option<Error>, // why the connection has ended
}

struct Waiting {
    correlation: i32,
    header_version: i16,
    reply: oneshot::Sender<Result<Bytes>>,
}

impl Connection {
    /// Serves a stream. Nothing is sent by it.
    pub(crate) fn new(stream: Stream, broker: &str, client_id: &str, timeout: Duration) -> Self {
        let shared = Arc::new(Shared {
            broker: broker.to_owned(),
            client_id: StrBytes::from_string(client_id.to_owned()),
            timeout,
            versions: OnceLock::new(),
            state: Mutex::default(),
            wake: Notify::new(),
            dead: AtomicBool::new(false),
            ended: Notify::new(),
        });
        tokio::spawn(write(shared.clone(), stream.write));
        tokio::spawn(read(shared.clone(), stream.read));
        Connection { held: Arc::new(Held(shared.clone())), shared }
    }

    /// Learns what the broker understands. One that does not speak Metadata, without which nothing can be done, is
    /// refused, so that what it said wrongly is asked again by the next connection and not believed as long as this lives.
    pub(crate) async fn negotiate(&self) -> Result<()> {
        let versions = Versions::ask(self).await?;
        let _ = self.shared.versions.set(versions); // twice is the same
        self.version::<MetadataRequest>(i16::MAX).map(drop)
    }

    /// What the broker understands; nothing before [`Connection::negotiate`].
    pub(crate) fn versions(&self) -> &Versions {
        static NOTHING: OnceLock<Versions> = OnceLock::new();
        self.shared.versions.get().unwrap_or_else(|| NOTHING.get_or_init(Versions::default))
    }

    /// Address of the broker, as it was dialled.
    pub(crate) fn broker(&self) -> &str {
        &self.shared.broker
    }

    /// The version to use of a request.
    pub(crate) fn version<R: Request>(&self, most: i16) -> Result<i16> {
        self.versions().pick::<R>(most).ok_or_else(|| Error::Unsupported {
            broker: self.shared.broker.clone(),
            what: format!("{} in a version that this client speaks", name_of(R::KEY)),
        })
    }

    /// Sends a request; what it returns is to be awaited for the answer. Requests are sent in the order of the calls.
    pub(crate) fn send<R: Request>(&self, request: &R, version: i16) -> Result<Reply<R>> {
        let (reply, answer) = oneshot::channel();
        let header_version = R::Response::header_version(version);
        self.enqueue(request, version, Some((header_version, reply)))?;
        Ok(Reply { connection: self.clone(), version, timeout: self.shared.timeout, answer, of: PhantomData })
    }

    /// Sends a request that has no answer.
    pub(crate) fn send_unanswered<R: Request>(&self, request: &R, version: i16) -> Result<()> {
        self.enqueue(request, version, None)
    }

    fn enqueue<R: Request>(
        &self,
        request: &R,
        version: i16,
        answer: Option<(i16, oneshot::Sender<Result<Bytes>>)>,
    ) -> Result<()> {
        let mut state = self.shared.lock();
        if let Some(failure) = &state.failure {
            return Err(failure.clone());
        }
        if state.retiring {
            return Err(self.shared.gone("it is being replaced"));
        }
        state.correlation = state.correlation.wrapping_add(1);
        let correlation = state.correlation;
        drop(state);
        // Encoding takes long for large requests: not under the lock. Callers that need an order call in that order.
        let frame = encode(request, version, correlation, &self.shared.client_id)?;
        let mut state = self.shared.lock();
        if let Some(failure) = &state.failure {
            return Err(failure.clone());
        }
        if let Some((header_version, reply)) = answer {
            state.waiting.push_back(Waiting { correlation, header_version, reply });
        }
        state.outgoing.push_back(frame);
        drop(state);
        self.shared.wake.notify_one();
        Ok(())
    }

    /// Whether nothing can be sent any more.
    pub(crate) fn is_dead(&self) -> bool {
        self.shared.dead.load(Ordering::Acquire) || self.shared.lock().retiring
    }

    /// Has the connection end once it owes no answer; nothing more can be sent.
    pub(crate) fn retire(&self) {
        let mut state = self.shared.lock();
        state.retiring = true;
        let quiet = state.waiting.is_empty() && state.outgoing.is_empty();
        drop(state);
        if quiet {
            self.shared.end(self.shared.gone("it was replaced"));
        }
    }

    /// [`Connection::retire`] after a time, unless it has ended by then.
    pub(crate) fn retire_after(&self, time: Duration) {
        let held = Arc::downgrade(&self.held);
        let shared = Arc::downgrade(&self.shared);
        tokio::spawn(async move {
            tokio::time::sleep(time).await;
            if let (Some(held), Some(shared)) = (held.upgrade(), shared.upgrade()) {
                Connection { shared, held }.retire();
            }
        });
    }

    /// Ends the connection: who waits for an answer is told that there will be none.
    pub(crate) fn close(&self, why: Error) {
        self.shared.end(why);
    }
}

fn encode<R: Request>(request: &R, version: i16, correlation: i32, client_id: &StrBytes) -> Result<Bytes> {
    let unfit = |e: &dyn std::fmt::Display| Error::Config(format!("{} cannot be sent: {e}", name_of(R::KEY)));
    let header_version = R::header_version(version);
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(correlation)
        .with_client_id(Some(client_id.clone()));
    let size = request.compute_size(version).map_err(|e| unfit(&e))?
        + header.compute_size(header_version).map_err(|e| unfit(&e))?;
    let length = i32::try_from(size).map_err(|e| unfit(&e))?;
    let mut frame = BytesMut::with_capacity(size + 4);
    frame.put_i32(length);
    header.encode(&mut frame, header_version).map_err(|e| unfit(&e))?;
    request.encode(&mut frame, version).map_err(|e| unfit(&e))?;
    Ok(frame.freeze())
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn gone(&self, why: &str) -> Error {
        Error::network(
            &self.broker,
            io::Error::new(io::ErrorKind::ConnectionAborted, format!("the connection has ended: {why}")),
        )
    }

    /// Ends the connection, once: who waits is told why.
    fn end(&self, why: Error) {
        let mut state = self.lock();
        if state.failure.is_none() {
            state.failure = Some(why.clone());
        }
        self.dead.store(true, Ordering::Release);
        state.outgoing.clear();
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        for w in waiting {
            let _ = w.reply.send(Err(why.clone())); // who has gone need not be told
        }
        self.wake.notify_one();
        self.ended.notify_one();
    }
}

/// Writes what is to go out, until the connection ends. It blocks on the socket and on callers.
async fn write(shared: Arc<Shared>, mut to: Box<dyn AsyncWrite + Send + Unpin>) {
    loop {
        let next = {
            let mut state = shared.lock();
            if state.failure.is_some() {
                break;
            }
            state.outgoing.pop_front()
        };
        let result = match next {
            Some(frame) => to.write_all(&frame).await,
            None => {
                let flushed = to.flush().await;
                if flushed.is_ok() {
                    shared.wake.notified().await;
                }
                flushed
            }
        };
        if let Err(e) = result {
            shared.end(Error::network(&shared.broker, e));
            break;
        }
    }
    let _ = to.shutdown().await; // the peer may be gone already
}

/// Hands answers to who waits for them, until the connection ends. It blocks on the socket.
async fn read(shared: Arc<Shared>, mut from: Box<dyn AsyncRead + Send + Unpin>) {
    let why = loop {
        let frame = tokio::select! {
            frame = read_frame(&mut from) => frame,
            () = shared.ended.notified() => return,
        };
        let quiet = match frame.map_err(|e| Error::network(&shared.broker, e)).and_then(|f| deliver(&shared, f)) {
            Ok(quiet) => quiet,
            Err(e) => break e,
        };
        if quiet {
            break shared.gone("it was replaced");
        }
    };
    shared.end(why);
}

/// Hands one answer on. It reports whether the connection is to end now, having been retired.
fn deliver(shared: &Shared, mut frame: Bytes) -> Result<bool> {
    let mut state = shared.lock();
    let Some(waiting) = state.waiting.pop_front() else {
        return Err(Error::malformed("an answer", "nothing was asked"));
    };
    let quiet = state.retiring && state.waiting.is_empty() && state.outgoing.is_empty();
    drop(state);
    let header: Result<ResponseHeader> = decode("the head of an answer", &mut frame, waiting.header_version);
    match header {
        Ok(h) if h.correlation_id == waiting.correlation => {
            let _ = waiting.reply.send(Ok(frame)); // who has gone does not want it
            Ok(quiet)
        }
        other => {
            let wrong = other.err().unwrap_or_else(|| Error::malformed("an answer", "it is not to what was asked"));
            let _ = waiting.reply.send(Err(wrong.clone()));
            Err(wrong)
        }
    }
}

async fn read_frame(from: &mut (dyn AsyncRead + Send + Unpin)) -> io::Result<Bytes> {
    let length = match from.read_i32().await {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
            return Err(io::Error::new(io::ErrorKind::ConnectionReset, "the broker has closed the connection"));
        }
        other => other?,
    };
    let length = usize::try_from(length).ok().filter(|n| (4..=MAX_FRAME).contains(n)).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("a frame of {length} bytes: is it Kafka's protocol, with TLS as the broker has it?"),
        )
    })?;
    let mut frame = BytesMut::with_capacity(length.min(READ_STEP));
    while frame.len() < length {
        let left = length - frame.len();
        frame.reserve(left.min(READ_STEP));
        if from.take(left as u64).read_buf(&mut frame).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(frame.freeze())
}

/// The answer that a request will have. To drop it takes nothing back.
pub(crate) struct Reply<R> {
    connection: Connection,
    version: i16,
    timeout: Duration,
    answer: oneshot::Receiver<Result<Bytes>>,
    of: PhantomData<fn() -> R>,
}

impl<R: Request> Reply<R> {
    /// Waits this long instead of the client's request time-out.
    pub(crate) fn within(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Waits for the answer. A broker that does not answer in time loses the connection: what comes after waits
    /// behind the same silence.
    pub(crate) async fn receive(self) -> Result<R::Response> {
        let version = self.version;
        let connection = self.connection.clone();
        let mut bytes = self.raw().await?;
        decode(&name_of(R::KEY), &mut bytes, version).inspect_err(|e| connection.close(e.clone()))
    }

    /// The answer without its head.
    pub(crate) async fn raw(self) -> Result<Bytes> {
        let Reply { connection, timeout, answer, .. } = self;
        match tokio::time::timeout(timeout, answer).await {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(_)) => Err(connection.shared.gone("nobody is left to answer")),
            Err(_) => {
                let what = format!("{} to broker {}", name_of(R::KEY), connection.shared.broker);
                let late = Error::Timeout { what, after: timeout };
                connection.close(late.clone());
                Err(late)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::messages::{MetadataRequest, MetadataResponse};
    use tokio::io::DuplexStream;

    const VERSION: i16 = 12;

    /// A connection, and the other end of it.
    fn connected(timeout: Duration) -> (Connection, DuplexStream) {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let (read, write) = tokio::io::split(ours);
        let remote = ([127, 0, 0, 1], 9092).into();
        let stream = Stream { read: Box::new(read), write: Box::new(write), local: None, remote };
        (Connection::new(stream, "broker:9092", "test", timeout), theirs)
    }

    /// Reads a request, and returns its correlation id.
    async fn asked(of: &mut DuplexStream) -> i32 {
        let length = of.read_i32().await.unwrap() as usize;
        let mut frame = vec![0; length];
        of.read_exact(&mut frame).await.unwrap();
        i32::from_be_bytes(frame[4..8].try_into().unwrap())
    }

    /// Answers a request; the answer says who is the controller.
    async fn answer(to: &mut DuplexStream, correlation: i32, controller: i32) {
        let mut frame = BytesMut::new();
        ResponseHeader::default().with_correlation_id(correlation).encode(&mut frame, 1).unwrap();
        MetadataResponse::default().with_controller_id(controller.into()).encode(&mut frame, VERSION).unwrap();
        to.write_i32(frame.len() as i32).await.unwrap();
        to.write_all(&frame).await.unwrap();
    }

    fn ask(c: &Connection) -> Reply<MetadataRequest> {
        c.send(&MetadataRequest::default(), VERSION).unwrap()
    }

    #[tokio::test]
    async fn answers_go_to_who_asked_and_who_has_gone_loses_nobody_theirs() {
        let (c, mut broker) = connected(Duration::from_secs(10));
        let (first, gone, last) = (ask(&c), ask(&c), ask(&c));
        drop(gone);
        for controller in 1..=3 {
            let correlation = asked(&mut broker).await;
            answer(&mut broker, correlation, controller).await;
        }
        assert_eq!(first.receive().await.unwrap().controller_id.0, 1);
        assert_eq!(last.receive().await.unwrap().controller_id.0, 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_broker_that_is_silent_loses_the_connection_in_time() {
        let (c, _broker) = connected(Duration::from_secs(10));
        let (first, other) = (ask(&c), ask(&c));
        assert!(matches!(first.receive().await, Err(Error::Timeout { .. })));
        assert!(other.receive().await.is_err());
        assert!(c.is_dead() && c.send(&MetadataRequest::default(), VERSION).is_err());
    }

    #[tokio::test]
    async fn a_connection_that_is_replaced_answers_what_it_was_asked() {
        let (c, mut broker) = connected(Duration::from_secs(10));
        let owed = ask(&c);
        c.retire();
        assert!(c.is_dead() && c.send(&MetadataRequest::default(), VERSION).is_err());
        let correlation = asked(&mut broker).await;
        answer(&mut broker, correlation, 7).await;
        assert_eq!(owed.receive().await.unwrap().controller_id.0, 7);
        assert_eq!(broker.read(&mut [0]).await.unwrap(), 0, "it has ended");
    }

    #[tokio::test]
    async fn a_connection_that_nobody_has_any_more_ends() {
        let (c, mut broker) = connected(Duration::from_secs(10));
        let reply = ask(&c);
        drop(c);
        let correlation = asked(&mut broker).await;
        answer(&mut broker, correlation, 7).await;
        assert_eq!(reply.receive().await.unwrap().controller_id.0, 7, "who waits has it");
        assert_eq!(broker.read(&mut [0]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn an_answer_that_is_none_ends_the_connection() {
        for wrong in [&b"HTTP/1.1 400 Bad"[..], &[0, 0, 0, 1, 0], &[0, 0, 0, 5, 0, 0, 0, 9, 0], &[0xff; 16]] {
            let (c, mut broker) = connected(Duration::from_secs(10));
            let reply = ask(&c);
            asked(&mut broker).await;
            broker.write_all(wrong).await.unwrap();
            drop(broker);
            assert!(reply.receive().await.is_err(), "{wrong:?}");
            assert!(c.is_dead());
        }
    }
}
