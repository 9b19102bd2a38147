//! What a connector keeps in the store from one run to the next: secrets that its system renews, in whose name it has
//! acted there, and how many calls it has made. Owns no store: whoever opens a connector says where things are kept.

use concord_engine::clock::Moment;
use concord_engine::config::SecretText;
use concord_engine::error::Result;
pub use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

/// The most users that are remembered of a connection (invariant 10).
const USERS_MAX: usize = 16;

/// Where things are kept, durably. Others keep secrets there as well: a person who consents anew, a command.
pub trait Keep: Send + Sync {
    /// Whether anything can be kept; where not, what was kept before can be looked at all the same.
    fn can_keep(&self) -> bool;

    /// The secret that is kept under a name now.
    fn secret<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<SecretText>>>;

    /// Keeps a secret, encrypted, in place of the one that was seen there. `false` where another one is kept by now: that
    /// one stays.
    fn succeed<'a>(&'a self, name: &'a str, seen: Option<&'a SecretText>, secret: &'a SecretText) -> BoxFuture<'a, Result<bool>>;

    /// Another number than before when somebody else has kept a secret since.
    fn given(&self) -> u64;

    /// Ends when [`given`](Keep::given) is another number than this one.
    fn given_other_than(&self, seen: u64) -> BoxFuture<'_, ()>;

    /// In whose name a connection has acted; `None` before its first login.
    fn acting<'a>(&'a self, system: &'a str) -> BoxFuture<'a, Result<Option<Acting>>>;

    /// Remembers in whose name a connection acts.
    fn keep_acting<'a>(&'a self, system: &'a str, acting: &'a Acting) -> BoxFuture<'a, Result<()>>;

    /// The calls that a connection has made of late; `None` where none were kept.
    fn calls<'a>(&'a self, system: &'a str) -> BoxFuture<'a, Result<Option<Calls>>>;

    /// Remembers the calls that a connection has made.
    fn keep_calls<'a>(&'a self, system: &'a str, calls: &'a Calls) -> BoxFuture<'a, Result<()>>;
}

/// Calls that a connection has made of its system, where that allows so many a day.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Calls {
    /// From when on, and how many, the oldest first.
    pub counted: Vec<(Moment, u64)>,
}

/// In whose name a connection has acted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acting {
    /// The vendor's id of the account that all of it is about.
    pub account: String,
    /// As whom, the first one first.
    users: Vec<User>,
    /// Whether earlier users were forgotten.
    forgot: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct User {
    /// `None` where the login did not tell.
    id: Option<String>,
    since: Moment,
}

impl Acting {
    /// In an account, as nobody yet.
    pub fn new(account: impl Into<String>) -> Acting {
        Acting { account: account.into(), users: Vec::new(), forgot: false }
    }

    /// We act as this user from a moment on. Whether that is another one than before.
    pub fn act_as(&mut self, user: Option<&str>, since: Moment) -> bool {
        if self.users.last().is_some_and(|last| last.id.as_deref() == user) {
            return false;
        }
        self.users.push(User { id: user.map(str::to_owned), since });
        if self.users.len() > USERS_MAX {
            self.users.remove(0);
            self.forgot = true;
        }
        true
    }

    /// Everybody as whom we have acted since a moment, the present one last. `None` where that is not known.
    pub fn users_since(&self, since: Moment) -> Option<Vec<String>> {
        let then = self.users.iter().rposition(|user| user.since <= since);
        if then.is_none() && self.forgot {
            return None;
        }
        let mut users: Vec<String> = Vec::new();
        for user in self.users.iter().skip(then.unwrap_or(0)) {
            let id = user.id.clone()?;
            users.retain(|known| *known != id);
            users.push(id);
        }
        (!users.is_empty()).then_some(users)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_acted_since_a_moment_is_known_and_what_is_not_known_is_not_made_up() {
        let mut acting = Acting::new("org");
        assert_eq!(acting.users_since(Moment(0)), None);
        assert!(acting.act_as(Some("ada"), Moment(100)) && !acting.act_as(Some("ada"), Moment(150)));
        assert_eq!(acting.users_since(Moment(0)), Some(vec!["ada".into()]), "nobody acted before the first one");
        assert!(acting.act_as(Some("bob"), Moment(200)));
        assert_eq!(acting.users_since(Moment(199)), Some(vec!["ada".into(), "bob".into()]));
        assert_eq!(acting.users_since(Moment(200)), Some(vec!["bob".into()]));
        assert!(acting.act_as(Some("ada"), Moment(300)));
        assert_eq!(acting.users_since(Moment(150)), Some(vec!["bob".into(), "ada".into()]));
        assert!(acting.act_as(None, Moment(400)));
        assert_eq!(acting.users_since(Moment(350)), None, "one of them was not told");
    }

    #[test]
    fn who_is_forgotten_makes_what_was_before_unknown() {
        let mut acting = Acting::new("org");
        for number in 0..40 {
            acting.act_as(Some(&format!("user {number}")), Moment(number));
        }
        assert_eq!(acting.users.len(), USERS_MAX);
        assert_eq!(acting.users_since(Moment(10)), None);
        assert_eq!(acting.users_since(Moment(39)), Some(vec!["user 39".into()]));
    }
}
