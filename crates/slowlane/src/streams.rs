//! The Redis Streams driver: one stream for each policy, one consumer group for all proxies.
//!
//! Redis is asked at each connection whether it syncs its append-only file on every write and evicts nothing: only then
//! does an answer mean "safe". Entries of a consumer that died are claimed by another once they were idle for
//! [`IDLE_MS_MAX`]. Every key has the prefix `{springtide-lane}:`, so that a cluster keeps them on one node.

use crate::{Backlog, Claimed, Dead, Depth, Driver, Ending, Error, Item, Later, Place, Pushed, State};
use prost::Message;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisError, Value, cmd, pipe};
use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::sync::{Mutex as StdMutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// Time after which an entry whose consumer does not renew it goes to another.
pub const IDLE_MS_MAX: u64 = 30_000;
/// Items of one policy.
pub const ITEMS_MAX: u64 = 1_000_000;
/// Dead letters listed at once.
const DEAD_LIST_MAX: usize = 10_000;
/// Time for which a done item is known by its id and key.
const KNOWN_S: u64 = 24 * 3_600;
/// Time for one answer of Redis.
const ANSWER: Duration = Duration::from_secs(5);
/// Time to connect.
const CONNECT: Duration = Duration::from_secs(2);
/// Time to connect and to ask whether it keeps what it accepts.
const OPEN: Duration = Duration::from_secs(4);
/// Time for one step, from waiting for a connection to the answer: whoever waits for a 202 hears within this.
const STEP: Duration = Duration::from_secs(6);
/// After a connection that failed, so long nobody tries: all who wait would, one after the other.
const AGAIN: Duration = Duration::from_secs(1);
/// The consumer group of all proxies.
const GROUP: &str = "proxies";
const POLICIES: &str = "{springtide-lane}:policies";
const DEAD: &str = "{springtide-lane}:dead";

/// Accepts an item unless its key is known or the stream is full: one step, so that two callers with one key get one item.
const PUSH: &str = "
local had = redis.call('GET', KEYS[1])
if had then return had end
if redis.call('XLEN', KEYS[2]) >= tonumber(ARGV[6]) then return 'full' end
redis.call('XADD', KEYS[2], '*', 'i', ARGV[3])
redis.call('SET', KEYS[1], ARGV[2] .. ' ' .. ARGV[1])
redis.call('HSET', KEYS[3], 'state', 'waiting', 'policy', ARGV[4])
redis.call('HSET', KEYS[4], ARGV[4], ARGV[5])
return 'ok'";

/// Ends an entry, once: the one who removes it from the stream writes what became of it.
const FINISH: &str = "
redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
if redis.call('XDEL', KEYS[1], ARGV[2]) == 0 then return 0 end
redis.call('HSET', KEYS[2], 'state', ARGV[3], 'status', ARGV[4], 'reason', ARGV[5])
if ARGV[3] == 'dead' then
  redis.call('HSET', KEYS[4], ARGV[7], ARGV[6])
else
  redis.call('EXPIRE', KEYS[2], ARGV[8])
  redis.call('EXPIRE', KEYS[3], ARGV[8])
end
return 1";

/// Puts a dead letter back at the end of its stream.
const REVIVE: &str = "
local item = redis.call('HGET', KEYS[1], ARGV[1])
if not item then return 0 end
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('XADD', KEYS[2], '*', 'i', item)
redis.call('HSET', KEYS[3], 'state', 'waiting')
redis.call('HSETNX', KEYS[4], ARGV[2], 0)
return 1";

/// The driver.
pub struct Streams {
    name: String,
    consumer: String,
    client: redis::Client,
    connection: StdMutex<Option<MultiplexedConnection>>,
    /// Held by the one who connects; when that last failed, and why.
    opening: Mutex<Option<(Instant, String)>>,
    /// Policies whose group exists, and where the walk for idle entries stands.
    groups: Mutex<BTreeMap<String, String>>,
}

impl Streams {
    /// Connects to `url` (`redis://[user:password@]host:port[/db]`) and checks that it keeps what it accepts. `name` is a
    /// part of the ids.
    pub async fn open(url: &str, name: &str) -> Result<Self, Error> {
        let streams = Self::later(url, name)?;
        streams.connection().await?;
        Ok(streams)
    }

    /// As [`Streams::open`], but connects and checks at the first use: a proxy starts while Redis is away.
    pub fn later(url: &str, name: &str) -> Result<Self, Error> {
        Ok(Self {
            name: name.to_owned(),
            consumer: format!("{name}:{:016x}", rand::random::<u64>()),
            client: redis::Client::open(url)?,
            connection: StdMutex::default(),
            opening: Mutex::default(),
            groups: Mutex::default(),
        })
    }

    fn held(&self) -> MutexGuard<'_, Option<MultiplexedConnection>> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection, made by one of those who want it; while it cannot be made, that is said at once.
    async fn connection(&self) -> Result<MultiplexedConnection, Error> {
        if let Some(connection) = self.held().clone() {
            return Ok(connection);
        }
        let mut failed = self.opening.lock().await;
        if let Some(connection) = self.held().clone() {
            return Ok(connection);
        }
        if let Some((at, why)) = &*failed
            && at.elapsed() < AGAIN
        {
            return Err(Error::Away(why.clone()));
        }
        let late = |_| {
            let late = io::Error::new(io::ErrorKind::TimedOut, format!("no connection within {} s", OPEN.as_secs()));
            Err(Error::Redis(late.into()))
        };
        match tokio::time::timeout(OPEN, self.connect()).await.unwrap_or_else(late) {
            Ok(connection) => {
                *failed = None;
                *self.held() = Some(connection.clone());
                Ok(connection)
            }
            Err(Error::Redis(error)) => {
                *failed = Some((Instant::now(), error.to_string()));
                Err(Error::Away(error.to_string()))
            }
            Err(error) => Err(error),
        }
    }

    async fn connect(&self) -> Result<MultiplexedConnection, Error> {
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT)).set_response_timeout(Some(ANSWER));
        let mut connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        check(&mut connection).await?;
        Ok(connection)
    }

    /// Runs a step; a connection that broke is made and checked anew at the next one.
    async fn step<T: redis::FromRedisValue>(&self, command: &redis::Cmd) -> Result<T, Error> {
        self.within(async {
            let mut connection = self.connection().await?;
            self.note(command.query_async(&mut connection).await)
        })
        .await
    }

    async fn within<T>(&self, step: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let late = |_| Err(Error::Away(format!("no answer within {} s", STEP.as_secs())));
        tokio::time::timeout(STEP, step).await.unwrap_or_else(late)
    }

    fn note<T>(&self, answer: Result<T, RedisError>) -> Result<T, Error> {
        if answer
            .as_ref()
            .is_err_and(|error| error.is_io_error() || error.is_connection_dropped() || error.is_timeout())
        {
            *self.held() = None;
        }
        Ok(answer?)
    }

    async fn group(&self, policy: &str) -> Result<(), Error> {
        if self.groups.lock().await.contains_key(policy) {
            return Ok(());
        }
        let mut create = cmd("XGROUP");
        create.arg("CREATE").arg(stream(policy)).arg(GROUP).arg("0").arg("MKSTREAM");
        match self.step::<Value>(&create).await {
            Err(Error::Redis(error)) if error.code() != Some("BUSYGROUP") => return Err(error.into()),
            Err(error) if !matches!(error, Error::Redis(_)) => return Err(error),
            _ => {}
        }
        self.groups.lock().await.insert(policy.to_owned(), "0-0".to_owned());
        Ok(())
    }

    /// Takes entries from consumers that are gone.
    async fn idle(&self, policy: &str, max: usize) -> Result<Vec<Claimed>, Error> {
        let from = self.groups.lock().await.get(policy).cloned().unwrap_or_else(|| "0-0".to_owned());
        let mut claim = cmd("XAUTOCLAIM");
        claim.arg(stream(policy)).arg(GROUP).arg(&self.consumer).arg(IDLE_MS_MAX).arg(from).arg("COUNT").arg(max);
        let (next, entries, _gone): (String, Value, Value) = self.step(&claim).await?;
        self.groups.lock().await.insert(policy.to_owned(), next);
        items(policy, entries)
    }

    async fn fresh(&self, policy: &str, max: usize) -> Result<Vec<Claimed>, Error> {
        let mut read = cmd("XREADGROUP");
        read.arg("GROUP").arg(GROUP).arg(&self.consumer).arg("COUNT").arg(max);
        read.arg("STREAMS").arg(stream(policy)).arg(">");
        let answer: Option<Vec<(String, Value)>> = self.step(&read).await?;
        match answer.into_iter().flatten().next() {
            Some((_, entries)) => items(policy, entries),
            None => Ok(Vec::new()),
        }
    }
}

fn stream(policy: &str) -> String {
    format!("{{springtide-lane}}:stream:{policy}")
}

fn id_key(id: &str) -> String {
    format!("{{springtide-lane}}:id:{id}")
}

fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn key_key(item: &Item) -> String {
    format!("{{springtide-lane}}:key:{}", hex(&item.key_digest()))
}

/// Refuses a Redis that may forget.
async fn check(connection: &mut MultiplexedConnection) -> Result<(), Error> {
    for (setting, wanted) in [("appendonly", "yes"), ("appendfsync", "always"), ("maxmemory-policy", "noeviction")] {
        let found: Vec<String> = cmd("CONFIG").arg("GET").arg(setting).query_async(connection).await?;
        let found = found.into_iter().nth(1).unwrap_or_default();
        if found != wanted {
            return Err(Error::NotDurable { setting, found, wanted });
        }
    }
    Ok(())
}

/// Fields of an entry.
type Fields = Vec<(String, Vec<u8>)>;

/// Entries of a stream as items; an entry that was deleted meanwhile has no fields.
fn items(policy: &str, entries: Value) -> Result<Vec<Claimed>, Error> {
    let entries: Vec<(String, Option<Fields>)> = redis::from_redis_value(entries).map_err(RedisError::from)?;
    let mut claimed = Vec::new();
    for (entry, fields) in entries {
        let Some((_, bytes)) = fields.into_iter().flatten().find(|(name, _)| name == "i") else { continue };
        match Item::decode(bytes.as_slice()) {
            Ok(item) => claimed.push(Claimed { item, place: Place::Stream(policy.to_owned(), entry) }),
            Err(error) => tracing::error!(%error, policy, entry, "an entry of the stream is no item of ours; it stays"),
        }
    }
    Ok(claimed)
}

impl Driver for Streams {
    fn push(&self, mut item: Item) -> Later<'_, Pushed> {
        Box::pin(async move {
            item.admit(&self.name)?;
            let (id, request) = (item.id.clone(), hex(&item.request_digest()));
            let mut push = cmd("EVAL");
            push.arg(PUSH).arg(4).arg(key_key(&item)).arg(stream(&item.policy)).arg(id_key(&id)).arg(POLICIES);
            let max = if item.waiting_max > 0 { item.waiting_max.min(ITEMS_MAX) } else { ITEMS_MAX };
            push.arg(&request).arg(&id).arg(item.encode_to_vec()).arg(&item.policy).arg(item.rate_milli_rps).arg(max);
            let answer: String = self.step(&push).await?;
            match answer.split_once(' ') {
                None if answer == "ok" => Ok(Pushed { id, known: false }),
                None => Err(Error::Full { held: max, max, unit: "items of this policy" }),
                Some((known, had)) if had == request => Ok(Pushed { id: known.to_owned(), known: true }),
                Some(_) => Err(Error::KeyReused { key: item.key }),
            }
        })
    }

    fn backlog(&self) -> Later<'_, Vec<Backlog>> {
        Box::pin(async move {
            let policies: BTreeMap<String, u64> = self.step(cmd("HGETALL").arg(POLICIES)).await?;
            if policies.is_empty() {
                return Ok(Vec::new());
            }
            let mut lengths = pipe();
            for policy in policies.keys() {
                lengths.cmd("XLEN").arg(stream(policy));
            }
            let asked = async {
                let mut connection = self.connection().await?;
                self.note(lengths.query_async::<Vec<u64>>(&mut connection).await)
            };
            let lengths = self.within(asked).await?;
            let whole = policies.into_iter().zip(lengths).filter(|(_, waiting)| *waiting > 0);
            Ok(whole.map(|((policy, rate_milli_rps), waiting)| Backlog { policy, waiting, rate_milli_rps }).collect())
        })
    }

    fn claim<'a>(&'a self, policy: &'a str, max: usize) -> Later<'a, Vec<Claimed>> {
        Box::pin(async move {
            self.group(policy).await?;
            let claimed = match self.idle(policy, max).await {
                Ok(mut claimed) => {
                    if claimed.len() < max {
                        claimed.extend(self.fresh(policy, max - claimed.len()).await?);
                    }
                    Ok(claimed)
                }
                Err(error) => Err(error),
            };
            if matches!(&claimed, Err(Error::Redis(error)) if error.code() == Some("NOGROUP")) {
                // The stream was removed by hand, or Redis came back empty: the group is made again at the next look.
                self.groups.lock().await.remove(policy);
            }
            claimed
        })
    }

    fn renew<'a>(&'a self, held: &'a [Place]) -> Later<'a, ()> {
        Box::pin(async move {
            let mut by_policy = BTreeMap::<&str, Vec<&str>>::new();
            for place in held {
                if let Place::Stream(policy, entry) = place {
                    by_policy.entry(policy).or_default().push(entry);
                }
            }
            for (policy, entries) in by_policy {
                let mut claim = cmd("XCLAIM");
                claim.arg(stream(policy)).arg(GROUP).arg(&self.consumer).arg(0).arg(entries).arg("JUSTID");
                self.step::<Value>(&claim).await?;
            }
            Ok(())
        })
    }

    fn finish<'a>(&'a self, claimed: &'a Claimed, ending: Ending) -> Later<'a, ()> {
        Box::pin(async move {
            let Place::Stream(policy, entry) = &claimed.place else { return Ok(()) };
            let (state, status, reason) = match ending {
                Ending::Done { status } => ("done", status, String::new()),
                Ending::Dead { status, reason, .. } => ("dead", status, reason),
                // Left idle: whoever looks next once it was so for long enough has it.
                Ending::Returned => return Ok(()),
            };
            let item = &claimed.item;
            let mut finish = cmd("EVAL");
            finish.arg(FINISH).arg(4).arg(stream(policy)).arg(id_key(&item.id)).arg(key_key(item)).arg(DEAD);
            finish
                .arg(GROUP)
                .arg(entry)
                .arg(state)
                .arg(status)
                .arg(reason)
                .arg(item.encode_to_vec())
                .arg(&item.id)
                .arg(KNOWN_S);
            self.step::<i64>(&finish).await?;
            Ok(())
        })
    }

    fn state<'a>(&'a self, id: &'a str) -> Later<'a, Option<State>> {
        Box::pin(async move {
            let found: BTreeMap<String, String> = self.step(cmd("HGETALL").arg(id_key(id))).await?;
            let status = found.get("status").and_then(|status| status.parse().ok()).unwrap_or(0);
            Ok(found.get("state").map(|state| match state.as_str() {
                "done" => State::Done { status },
                "dead" => State::Dead { status, reason: found.get("reason").cloned().unwrap_or_default() },
                _ => State::Waiting,
            }))
        })
    }

    fn dead(&self, skip: usize, limit: usize) -> Later<'_, Vec<Dead>> {
        Box::pin(async move {
            let mut ids: Vec<String> = self.step(cmd("HKEYS").arg(DEAD)).await?;
            // Ids begin with their time, apart from the lane's name.
            ids.sort_by(|a, b| a.rsplit('.').next().cmp(&b.rsplit('.').next()));
            let mut dead = Vec::new();
            for id in ids.into_iter().skip(skip).take(limit.min(DEAD_LIST_MAX)) {
                let bytes: Option<Vec<u8>> = self.step(cmd("HGET").arg(DEAD).arg(&id)).await?;
                let Some(bytes) = bytes else { continue };
                let item = Item::decode(bytes.as_slice()).map_err(|error| Error::Damaged(error.to_string()))?;
                if let Some(State::Dead { status, reason }) = self.state(&id).await? {
                    dead.push(Dead { item, status, reason });
                }
            }
            Ok(dead)
        })
    }

    fn revive<'a>(&'a self, id: &'a str) -> Later<'a, bool> {
        Box::pin(async move {
            let bytes: Option<Vec<u8>> = self.step(cmd("HGET").arg(DEAD).arg(id)).await?;
            let Some(bytes) = bytes else { return Ok(false) };
            let item = Item::decode(bytes.as_slice()).map_err(|error| Error::Damaged(error.to_string()))?;
            let mut revive = cmd("EVAL");
            revive.arg(REVIVE).arg(4).arg(DEAD).arg(stream(&item.policy)).arg(id_key(id)).arg(POLICIES);
            revive.arg(id).arg(&item.policy);
            Ok(self.step::<i64>(&revive).await? == 1)
        })
    }

    fn depth(&self) -> Later<'_, Depth> {
        Box::pin(async move {
            let waiting = self.backlog().await?.iter().map(|backlog| backlog.waiting).sum();
            let dead: u64 = self.step(cmd("HLEN").arg(DEAD)).await?;
            Ok(Depth { waiting, dead, bytes: 0 })
        })
    }
}
