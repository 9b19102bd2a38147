//! A replication session: connects, authenticates, asks, and then streams. tokio-postgres has no replication mode;
//! the framing comes from pgwire-replication, which is named in this file and nowhere else. TLS is our own, so that
//! this session trusts exactly what all others do.
//! Source: <https://www.postgresql.org/docs/current/protocol-replication.html>.

use super::client::startup_options;
use super::config::{Config, SslMode};
use super::{errors, tls};
use bytes::{Buf, Bytes};
use concord_engine::error::{Code, Error, Result};
use pgwire_replication::protocol::framing::{
    MessageReader, write_copy_data, write_password_message, write_query, write_ssl_request, write_startup_message,
};
use pgwire_replication::protocol::messages::ErrorFields;
use pgwire_replication::protocol::{BackendMessage, ReplicationCopyData, encode_standby_status_update, parse_copy_data};
use pgwire_replication::{Lsn, PgWireError};
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use rustls::pki_types::ServerName;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, BufReader};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

/// Protocol 3.0, as every supported server speaks it.
const PROTOCOL_VERSION: i32 = 196_608;
/// How much is read from the socket at once.
const READ_BUFFER_BYTES: usize = 128 << 10;

/// The bytes of a session, encrypted or not.
trait Wire: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Wire for T {}

/// Whether an attempt to connect uses TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encryption {
    Never,
    IfOffered,
    Always,
}

/// An authenticated replication session.
pub struct Session {
    wire: BufReader<Box<dyn Wire>>,
    reader: MessageReader,
    /// What it is for, in front of every error.
    doing: String,
}

/// What a streaming session brings.
pub enum Received {
    /// A message of the output plugin.
    Data(Bytes),
    /// The server's word that there is nothing before here.
    KeepAlive {
        /// The place in the log.
        wal_end: u64,
        /// Whether it wants an answer at once.
        reply: bool,
    },
}

/// A row of a query's answer, as texts.
pub type TextRow = Vec<Option<String>>;

impl Session {
    /// Connects and authenticates. `allow` and `prefer` are two attempts, as for other sessions.
    pub async fn connect(config: &Config, application_name: &str) -> Result<Session> {
        let place = format!("replicating {} at {}:{} as {}", config.database, config.host, config.port, config.username);
        let attempts: &[Encryption] = match config.sslmode {
            _ if config.is_socket() => &[Encryption::Never],
            SslMode::Disable => &[Encryption::Never],
            SslMode::Allow => &[Encryption::Never, Encryption::Always],
            SslMode::Prefer => &[Encryption::IfOffered, Encryption::Never],
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => &[Encryption::Always],
        };
        let mut failure = None;
        for &encryption in attempts {
            let attempt = Session::attempt(config, application_name, &place, encryption);
            let late = |_| Err(Error::new(Code::Unreachable, format!("{place}: no answer in time")));
            match tokio::time::timeout(config.connect_timeout, attempt).await.unwrap_or_else(late) {
                Ok(session) => return Ok(session),
                Err(error) => {
                    let refused = matches!(error.code, Code::AuthenticationFailed | Code::TlsFailed);
                    let first = failure.get_or_insert(error);
                    if !refused {
                        return Err(first.clone());
                    }
                }
            }
        }
        Err(failure.unwrap_or_else(|| errors::unexpected("no way to connect")))
    }

    async fn attempt(config: &Config, application_name: &str, place: &str, encryption: Encryption) -> Result<Session> {
        let wire = BufReader::with_capacity(READ_BUFFER_BYTES, open(config, place, encryption).await?);
        let mut session = Session { wire, reader: MessageReader::new(), doing: place.to_owned() };
        let options = startup_options(&[]);
        let parameters = [
            ("user", config.username.as_str()),
            ("database", config.database.as_str()),
            ("replication", "database"),
            ("client_encoding", "UTF8"),
            ("application_name", application_name),
            ("options", options.as_str()),
        ];
        let sent = write_startup_message(&mut session.wire, PROTOCOL_VERSION, &parameters).await;
        sent.map_err(|error| session.failed(&error))?;
        session.authenticate(config).await?;
        Ok(session)
    }

    /// Answers the server's requests until it is ready.
    async fn authenticate(&mut self, config: &Config) -> Result<()> {
        let password = config.password.reveal();
        loop {
            let mut message = self.message().await?;
            match message.tag {
                b'R' => {
                    let code = if message.payload.remaining() < 4 { -1 } else { message.payload.get_i32() };
                    match code {
                        0 => {}
                        3 => self.answer(&with_nul(password)).await?,
                        5 => {
                            let salt = message.payload.get(..4).and_then(|salt| <[u8; 4]>::try_from(salt).ok());
                            let salt = salt.ok_or_else(|| self.violation("an MD5 request without salt"))?;
                            let hashed = md5_hash(config.username.as_bytes(), password.as_bytes(), salt);
                            self.answer(&with_nul(&hashed)).await?;
                        }
                        10 => self.scram(password, &message.payload).await?,
                        other => {
                            let message = format!(
                                "{}: the server asks for authentication of kind {other}, which is not supported",
                                self.doing
                            );
                            return Err(Error::new(Code::AuthenticationFailed, message));
                        }
                    }
                }
                b'Z' => return Ok(()),
                _ => {}
            }
        }
    }

    /// SCRAM-SHA-256 without channel binding.
    async fn scram(&mut self, password: &str, offered: &[u8]) -> Result<()> {
        if !offered.split(|byte| *byte == 0).any(|name| name == SCRAM_SHA_256.as_bytes()) {
            let message = format!("{}: the server does not offer {SCRAM_SHA_256}", self.doing);
            return Err(Error::new(Code::AuthenticationFailed, message));
        }
        let mut scram = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
        let length = u32::try_from(scram.message().len()).unwrap_or(u32::MAX);
        let mut first = with_nul(SCRAM_SHA_256);
        first.extend_from_slice(&length.to_be_bytes());
        first.extend_from_slice(scram.message());
        self.answer(&first).await?;
        let challenge = self.sasl(11).await?;
        let failed = |doing: &str, error: std::io::Error| Error::new(Code::AuthenticationFailed, format!("{doing}: {error}"));
        scram.update(&challenge).map_err(|error| failed(&self.doing, error))?;
        self.answer(scram.message()).await?;
        let proof = self.sasl(12).await?;
        scram.finish(&proof).map_err(|error| failed(&self.doing, error))
    }

    /// The server's next word in the exchange.
    async fn sasl(&mut self, expected: i32) -> Result<Bytes> {
        let mut message = self.message().await?;
        if message.tag != b'R' || message.payload.remaining() < 4 || message.payload.get_i32() != expected {
            return Err(self.violation("an unexpected word in the authentication"));
        }
        Ok(message.payload)
    }

    async fn answer(&mut self, payload: &[u8]) -> Result<()> {
        write_password_message(&mut self.wire, payload).await.map_err(|error| self.failed(&error))
    }

    /// The next message; the server's refusal is an error. Cancel-safe.
    async fn message(&mut self) -> Result<BackendMessage> {
        let message = self.reader.read(&mut self.wire).await.map_err(|error| failed(&self.doing, &error))?;
        if message.tag == b'E' { Err(self.refused(&message.payload)) } else { Ok(message) }
    }

    /// A command's answer, as texts.
    pub async fn query(&mut self, command: &str) -> Result<Vec<TextRow>> {
        write_query(&mut self.wire, command).await.map_err(|error| self.failed(&error))?;
        let mut rows = Vec::new();
        loop {
            let message = self.message().await?;
            match message.tag {
                b'D' => rows.push(text_row(message.payload).ok_or_else(|| self.violation("a malformed row"))?),
                b'Z' => return Ok(rows),
                _ => {}
            }
        }
    }

    /// Begins to stream the slot's changes of a publication from a place.
    pub async fn start(&mut self, slot: &str, publication: &str, from: &str) -> Result<()> {
        self.doing = format!("{}, reading the feed {slot}", self.doing);
        // Both names are made of a-z, 0-9 and _.
        let command = format!(
            "START_REPLICATION SLOT \"{slot}\" LOGICAL {from} (proto_version '1', publication_names '{publication}', messages 'true')"
        );
        write_query(&mut self.wire, &command).await.map_err(|error| self.failed(&error))?;
        loop {
            if self.message().await?.tag == b'W' {
                return Ok(());
            }
        }
    }

    /// What comes next in the stream. Cancel-safe.
    pub async fn receive(&mut self) -> Result<Received> {
        loop {
            let message = self.message().await?;
            match message.tag {
                b'd' => {}
                b'c' => return Err(Error::new(Code::Unreachable, format!("{}: the server ended the stream", self.doing))),
                _ => continue,
            }
            return Ok(match parse_copy_data(message.payload).map_err(|error| self.failed(&error))? {
                ReplicationCopyData::XLogData { data, .. } => Received::Data(data),
                ReplicationCopyData::KeepAlive { wal_end, reply_requested, .. } => {
                    Received::KeepAlive { wal_end: wal_end.as_u64(), reply: reply_requested }
                }
            });
        }
    }

    /// Tells the server what is durable with us; `ask`: it shall answer at once.
    pub async fn status(&mut self, durable: u64, ask: bool) -> Result<()> {
        // The client's clock in it is for people only; the server does not read it.
        let payload = encode_standby_status_update(Lsn::from_u64(durable), 0, ask);
        write_copy_data(&mut self.wire, &payload).await.map_err(|error| self.failed(&error))
    }

    fn refused(&self, payload: &[u8]) -> Error {
        let fields = ErrorFields::parse(payload);
        let state = fields.code.unwrap_or_default();
        let message = fields.message.unwrap_or_default();
        Error::new(errors::code_of(&state), format!("{}: {message} (SQLSTATE {state})", self.doing))
    }

    fn violation(&self, what: &str) -> Error {
        Error::new(Code::ProtocolViolation, format!("{}: {what}", self.doing))
    }

    fn failed(&self, error: &PgWireError) -> Error {
        failed(&self.doing, error)
    }
}

/// What the framing reports: a lost connection, or bytes that are no message.
fn failed(doing: &str, error: &PgWireError) -> Error {
    let code = if error.is_io() { Code::Unreachable } else { Code::ProtocolViolation };
    Error::new(code, format!("{doing}: the connection was lost")).because(error.to_string())
}

fn with_nul(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

/// Opens the socket, and TLS where it is wanted and offered.
async fn open(config: &Config, place: &str, encryption: Encryption) -> Result<Box<dyn Wire>> {
    let unreachable = |error: std::io::Error| Error::new(Code::Unreachable, format!("{place}: no answer")).because(error);
    if config.is_socket() {
        let path = format!("{}/.s.PGSQL.{}", config.host, config.port);
        return Ok(Box::new(UnixStream::connect(path).await.map_err(unreachable)?));
    }
    let mut socket = TcpStream::connect((config.host.as_str(), config.port)).await.map_err(unreachable)?;
    socket.set_nodelay(true).map_err(unreachable)?;
    if encryption == Encryption::Never {
        return Ok(Box::new(socket));
    }
    write_ssl_request(&mut socket).await.map_err(|error| failed(place, &error))?;
    match (socket.read_u8().await.map_err(unreachable)?, encryption) {
        (b'S', _) => {}
        (_, Encryption::IfOffered) => return Ok(Box::new(socket)),
        _ => return Err(Error::new(Code::TlsFailed, format!("{place}: the server does not offer TLS"))),
    }
    let refused = |error: std::io::Error| Error::new(Code::TlsFailed, format!("{place}: TLS could not be set up")).because(error);
    let name = ServerName::try_from(config.host.clone())
        .map_err(|error| Error::new(Code::TlsFailed, format!("{place}: the host's name does not suit TLS")).because(error))?;
    let connector = TlsConnector::from(Arc::new(tls::client(config)?));
    Ok(Box::new(connector.connect(name, socket).await.map_err(refused)?))
}

/// `DataRow`: a count, and for each column a length (-1: null) and its bytes.
fn text_row(mut payload: Bytes) -> Option<TextRow> {
    let count = payload.try_get_u16().ok()?;
    let mut row = Vec::with_capacity(usize::from(count));
    for _ in 0..count {
        let length = payload.try_get_i32().ok()?;
        row.push(match usize::try_from(length) {
            Err(_) => None,
            Ok(length) if length <= payload.remaining() => Some(String::from_utf8_lossy(&payload.split_to(length)).into_owned()),
            Ok(_) => return None,
        });
    }
    Some(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_read_with_its_nulls_and_never_beyond_its_end() {
        let row = text_row(Bytes::from_static(b"\0\x02\0\0\0\x02ab\xff\xff\xff\xff"));
        assert_eq!(row, Some(vec![Some("ab".into()), None]));
        for bytes in [&b""[..], b"\0\x01", b"\0\x01\0\0\0\x05ab"] {
            assert_eq!(text_row(Bytes::copy_from_slice(bytes)), None);
        }
    }
}
