//! The one error type that crosses a border of the engine, and the table of its stable codes.
//! A code never changes its meaning once released; docs/errors.md lists the same codes, and the tidy test
//! keeps both equal. The class of an error is decided where it is born, never by reading its text.

use std::fmt;
use std::time::Duration;

/// What a caller does with a failure; see [`Code::class`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Trying the same thing again may work: retried with back-off.
    Transient,
    /// The system asked us to slow down: retried when it said, costs no attempt.
    Throttled,
    /// What we believed is out of date: read, plan again; costs no attempt.
    Stale,
    /// This record cannot be written as it is: goes to review at once.
    Rejected,
    /// The write may or may not have happened: verified before anything else.
    UnknownOutcome,
    /// The object (or the whole run) cannot go on until a person acts.
    Stop,
    /// What the person wrote or asked is wrong: nothing was touched.
    BadInput,
}

macro_rules! codes {
    ($( $(#[doc = $meaning:literal])* $variant:ident = $number:literal, $class:ident, $remedy:literal; )*) => {
        /// A stable error code, printed as `CON-1203`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code { $( $(#[doc = $meaning])* $variant, )* }

        impl Code {
            /// Every code, in the order of their numbers.
            pub const ALL: &'static [Code] = &[ $( Code::$variant, )* ];

            /// The number behind `CON-`.
            pub fn number(self) -> u16 { match self { $( Code::$variant => $number, )* } }

            /// What has happened, in words.
            pub fn meaning(self) -> &'static str { match self { $( Code::$variant => concat!($($meaning),*).trim_ascii(), )* } }

            /// What is to be done with a failure of this code.
            pub fn class(self) -> Class { match self { $( Code::$variant => Class::$class, )* } }

            /// The operator's next step, in words.
            pub fn remedy(self) -> &'static str { match self { $( Code::$variant => $remedy, )* } }
        }
    };
}

codes! {
    // 10xx: the configuration. Born in config/.
    /// The document is not JSON (or YAML).
    ConfigSyntax = 1001, BadInput, "Correct the document at the place named.";
    /// A document of the configuration cannot be read.
    ConfigUnreadable = 1002, BadInput, "Correct the path, or grant the right to read the file.";
    /// A key that the language does not have.
    ConfigUnknownKey = 1003, BadInput, "Correct the key's spelling or its place, or remove it: docs/config.md lists every key.";
    /// A value of the wrong kind.
    ConfigWrongType = 1004, BadInput, "Write a value of the kind that the message names.";
    /// A text that is none of the values that the key takes.
    ConfigUnknownValue = 1005, BadInput, "Write one of the values that the message lists.";
    /// A value outside its range.
    ConfigOutOfRange = 1006, BadInput, "Write a value within the range that the message names.";
    /// One setting in two places with different values.
    ConfigSetTwice = 1007, BadInput, "Keep one of the two places and remove the other.";
    /// Less was written than is needed.
    ConfigMissing = 1008, BadInput, "Add what the message names.";
    /// Two settings contradict each other.
    ConfigContradiction = 1009, BadInput, "Change one of the settings named so that they agree.";
    /// A name that nothing has: a connection, a system, a role, a sync.
    ConfigUnknownName = 1010, BadInput, "Correct the name, or define what it names.";
    /// A field that no mapping names.
    ConfigUnknownField = 1011, BadInput, "Correct the field's name, or add it to field_mappings or include_fields.";
    /// Two things of one name.
    ConfigDuplicateName = 1012, BadInput, "Give each a name of its own.";
    /// A secret was written plainly.
    ConfigPlainSecret = 1013, BadInput, "Put the secret in the environment, in a file or in the store, and write where it is: {\"env\": \"NAME\"}, {\"file\": \"path\"} or {\"secret\": \"NAME\"}.";
    /// A regular expression, schedule or time format that cannot be used.
    ConfigBadPattern = 1014, BadInput, "Correct the pattern where the message says.";
    /// An expression that cannot be compiled.
    ConfigBadExpression = 1015, BadInput, "Correct the expression where the message says.";
    /// Something that the language has and this version does not do yet: a warning.
    ConfigNotBuilt = 1016, BadInput, "Remove the setting, or go on without its effect.";
    /// A setting that has no effect beside the others: a warning.
    ConfigNoEffect = 1017, BadInput, "Remove the setting, or change the one that makes it idle.";
    /// The place that a secret refers to holds none.
    SecretMissing = 1018, Stop, "Set the environment variable, fill the file, run `concord secret set NAME`, or `concord connect` where a person has to consent.";
    /// The file that should hold a secret cannot be read.
    SecretUnreadable = 1019, Stop, "Put right what the message names: the path, the right to read the file, or the form of the key.";
    /// A secret of the store was encrypted with another key than the one that is at hand.
    SecretKeyDiffers = 1020, Stop, "Use the key that the store's secrets were kept with: the same CONCORD_SECRET_KEY as `concord run`, or none where the key is the file `secret.key` beside the store. If that key is lost, give each secret again with `concord secret set NAME --new-key`, then the consents with `concord connect`.";

    /// A filter that cannot be carried out here: the sync does not run, for it would carry records that were left out.
    FilterNotBuilt = 1021, BadInput, "Write a condition as the `filter` of the source of a one-way sync that is mirrored (docs/config.md says which are), or remove the filter: then every record takes part.";
    /// A stage of a rollout that cannot be carried out here: the sync does not run, for it would write what was to be held back.
    RolloutNotBuilt = 1022, BadInput, "Remove `rollout`, or write `full`: then the sync writes everything. To see beforehand what would be written, use `concord plan`; to try the sync out, give it copies of the objects.";

    // 18xx: a configuration proven against real schemas. Born in plan/.
    /// A mapping names a field that the object does not have.
    PlanFieldMissing = 1801, BadInput, "Correct the field's name in the mapping, or remove the mapping.";
    /// The two objects have no field in common.
    PlanNoFields = 1802, BadInput, "Name the fields that correspond in `field_mappings`.";
    /// No value of the one field can be carried to the other.
    PlanTypesApart = 1803, BadInput, "Map a field of another type, or add a transformation that converts: `cast`, `date_format`, `map` or `expression`.";
    /// Some values of the one field do not fit the other: a warning.
    PlanMayNotFit = 1804, BadInput, "Nothing to do if such values do not occur: one that does goes to review. Otherwise widen the field, or declare the loss with `cast`.";
    /// A field flows one way only because its transformation has no way back: a warning.
    PlanOneWayField = 1805, BadInput, "Nothing to do if that is meant; otherwise use a transformation with an inverse.";
    /// Both sides hold records, and nothing tells which of them are the same.
    PlanMatchNeeded = 1806, BadInput, "Name the fields that tell it in `match_on`.";
    /// A match field cannot be used.
    PlanMatchUnusable = 1807, BadInput, "Name a field that both sides have and that a mapping carries.";
    /// A field cannot be written where the mapping carries it to.
    PlanReadOnly = 1808, BadInput, "Nothing to do if the field is to flow the other way only; `direction` says so without a warning.";
    /// An index is missing: a warning.
    PlanIndexMissing = 1809, BadInput, "Make the index named; without it every look-up reads the whole table.";
    /// A transformation cannot be used for this field.
    PlanTransformationUnusable = 1810, BadInput, "Correct the transformation's name or arguments.";
    /// A validation rule cannot be used.
    PlanRuleUnusable = 1811, BadInput, "Correct the rule: the field that it names must take part, and its arguments must suit the field's type.";
    /// A create would leave out a field that the system insists on: a warning.
    PlanCreateIncomplete = 1812, BadInput, "Map a field to it, or give it a default in the system: without that, creates there go to review.";
    /// A rule names a system, role, field or group that the sync does not have.
    PlanNameUnknown = 1813, BadInput, "Use the name of a member's system or role, of a field or of a group.";
    /// The sync is not a pair.
    PlanNotAPair = 1814, BadInput, "Write one sync per pair of systems, each with `source` and `target`.";
    /// A member is not read at first, for it cannot tell what changed since: a warning.
    PlanNotRead = 1815, BadInput, "Its records are linked when they are first seen to change. To read them, name a field that holds the time of an edit in `conflict_resolution.timestamp_field`.";
    /// A field cannot name the records of the sync that it refers to.
    PlanReferenceUnusable = 1816, BadInput, "Refer to a sync that keeps records in the same systems, each under a key of a single field.";
    /// A filter's condition does not suit the fields of its object.
    PlanFilterUnusable = 1817, BadInput, "Correct the condition where the message says.";
    /// Several syncs pass a field round: a warning.
    FieldsInRing = 1820, BadInput, "Let one of the syncs leave the field out (`exclude_fields`), or let it flow one way there (`direction`, `owner`): an edit comes back to where it was made, and two at once chase each other.";
    /// Several syncs write a field, and one of them takes no edits of it: a warning.
    FieldsOwnedTwice = 1821, BadInput, "Nothing to do where they hold different records. Otherwise let one of the syncs leave the field out, or say with `owner` or `direction` whose edits flow.";

    // 20xx: systems and connectors.
    /// The system could not be reached or dropped the connection.
    Unreachable = 2001, Transient, "Check that the system runs and that host, port and network are right. `concord run` tries again by itself.";
    /// Authentication failed.
    AuthenticationFailed = 2002, Stop, "Check the user name and where its secret comes from.";
    /// A privilege is missing.
    PrivilegeMissing = 2003, Stop, "Run the statement named in the message as an administrator; `concord check --connect` names it where the message does not.";
    /// A server setting stands in the way.
    SettingWrong = 2004, Stop, "Change the setting named in the message and restart the server if it says so.";
    /// The object does not exist or cannot be seen.
    ObjectMissing = 2005, Stop, "Correct the name that the message gives (of the object, or of the database in the connection), or grant the right to see it.";
    /// The object has no key.
    KeyMissing = 2006, Stop, "Give the table a primary key, or a unique index over columns that are NOT NULL.";
    /// A mapped field is not in the object.
    FieldMissing = 2007, Stop, "Correct the field's name in the mapping, or remove the mapping.";
    /// The feed cannot be resumed at the stored position.
    FeedGap = 2008, Stop, "Changes may have been missed. `concord verify` lists what differs; `concord verify --repair` reads both sides again, merges what was missed, and lets the sync go on.";
    /// The schema of a mapped object changed in a way that the mapping does not survive.
    SchemaDrift = 2009, Stop, "Adapt the mapping to the new schema, then resume the sync. A mirrored sync whose table can no longer be followed is read again with `concord verify --repair`.";
    /// The connector does not do this.
    Unsupported = 2010, Stop, "Use a way that the connector supports, as the message names it.";
    /// The system's answer does not follow its protocol.
    ProtocolViolation = 2011, Transient, "Tried again. If it lasts, report it with the message.";
    /// The system asked us to slow down.
    Throttled = 2012, Throttled, "Nothing to do: it is tried again when the system allows it.";
    /// TLS could not be set up as configured.
    TlsFailed = 2013, Stop, "Check sslmode and the certificates.";
    /// Another session holds what we need (a slot in use, a lock).
    Busy = 2014, Transient, "Nothing to do: it is tried again. If it lasts, another process uses the same slot or lock.";
    /// The feed holds back so much of the source's log that it will soon be lost.
    FeedLagging = 2015, Stop, "Let the sync catch up, or raise the limit of retained log on the server.";
    /// The feed cannot be resumed, for the system was put back to an earlier state: restored, or promoted without its last changes.
    FeedRewound = 2016, Stop, "Look whether the restore is meant. Then have both sides read again (`concord verify --repair`): what is lost is counted first, and where it is much you are asked which side is right.";
    /// A feed in a system belongs to no sync of the configuration, and may hold back the system's log.
    FeedLeftOver = 2017, Stop, "If the sync was renamed, give it its old name back. Else remove the feed with the statement named, or with `concord release --leftovers`, before the system's disk is full.";
    /// A record of a table without a key was changed or deleted, and which one that is in the target cannot be told.
    RecordUntold = 2018, Stop, "Have the table read again (`concord verify --repair`): the target's records are replaced by those that the source then holds. If it happens often, give the table a primary key.";
    /// Records are there already, and nothing tells whether they are the source's.
    TargetNotEmpty = 2019, Stop, "Empty the table in the target, then resume the sync: a table without a key is mirrored into an empty one only.";

    // 21xx: database servers.
    /// The server refused a statement for a reason that has no code of its own.
    StatementRefused = 2101, Transient, "Tried again. If it lasts, look up the SQLSTATE in the message and the server's log.";

    /// An index that was set aside for a first load cannot be built again.
    IndexNotBuilt = 2102, Stop, "Put right what the message names, or build the index yourself with the statement given, then resume the sync: nothing else of the load is lost.";

    // 22xx: database files.
    /// The database file could not be opened.
    FileUnavailable = 2200, Transient, "Nothing to do: it is tried again. If it lasts, check the path, and that the process may read and write the file and its folder.";
    /// The database file may be read but not written.
    FileReadOnly = 2201, Stop, "Give the process the right to write the file and its folder, then resume.";
    /// The file is damaged, or is no database.
    FileCorrupt = 2202, Stop, "Check the path; if it is right, restore the file from a copy or repair it with the database's own tool, then run `concord plan`.";
    /// The disk that holds the database file is full.
    DiskFull = 2203, Transient, "Free space on the disk: it is tried again.";
    /// The disk failed beneath the database file.
    FileFailed = 2204, Transient, "Nothing to do: it is tried again. If it lasts, check the disk and the machine's log.";
    /// The database refused a statement of ours.
    WriteRefused = 2205, Rejected, "Look at the reason given: a trigger of the table may use a function that only the application has.";

    // 23xx: hosted products, reached by their API.
    /// The day's allowance of calls or events is used up.
    HostedAllowanceUsed = 2301, Throttled, "Nothing to do: work goes on as the allowance comes back, the newest state of each record once. If it happens often, raise the allowance, or `rate_limit.daily_quota_share`.";
    /// The product tells nothing of this object's changes.
    HostedEventsOff = 2302, Stop, "Switch on change events for the object in the product's administration; `concord check --connect` says where.";
    /// The product's storage is full.
    HostedStorageFull = 2303, Stop, "Free storage in the product or buy more, then resume.";
    /// A rule of the product takes the record for a duplicate.
    HostedDuplicateRule = 2304, Rejected, "Merge the records in the product, or change its rule, then retry the record from review.";
    /// The product does not let this field be written.
    HostedFieldRefused = 2305, Rejected, "Give our user the right to write the field, or let its mapping flow the other way only.";
    /// The record refers to one that is not there, or that we may not see.
    HostedReferenceUnknown = 2306, Rejected, "Make or share the record referred to, then retry from review.";
    /// An automation of the product failed on the record.
    HostedAutomationFailed = 2307, Rejected, "Show the message to whoever looks after the product's automations; retry the record from review when it is mended.";
    /// Our user may not change this record.
    HostedRecordDenied = 2308, Rejected, "Share the record with our user, or let somebody else own it, then retry from review.";
    /// The login is for another account of the product than the one that is configured, or that the store works with.
    HostedOtherAccount = 2309, Stop, "Correct the credentials and addresses so that the login is for the account named; where a person consents, run `concord connect` as a user of that account. Another account needs a store of its own.";
    /// The token of the connection is good for one use, and the process that runs uses it.
    HostedTokenInUse = 2310, Stop, "Nothing to do: `concord status` says how the process that runs does. To have everything looked at, stop it first.";

    // 30xx: what happens to a record.
    /// The target refused the record.
    TargetRejected = 3001, Rejected, "Correct the record named, then retry it from review.";
    /// A value does not fit the target's field.
    ValueDoesNotFit = 3002, Rejected, "Shorten or correct the value, widen the target's field, or declare a lossy rule in the mapping.";
    /// The guard of a write did not hold.
    GuardMissed = 3003, Stale, "Nothing to do: the record is read and planned again.";
    /// It is not known whether the write happened.
    OutcomeUnknown = 3004, UnknownOutcome, "Nothing to do: the outcome is verified before anything else is written.";
    /// A create met a record that is already there.
    AlreadyThere = 3005, Stale, "Nothing to do: the record is matched again.";
    /// Several members changed the same fields, and the rule is to ask.
    Conflict = 3006, Rejected, "Choose a value with `concord review resolve`.";
    /// One member deleted the record, another edited it, and the rule is to ask.
    DeleteAgainstEdit = 3007, Rejected, "Decide with `concord review resolve` whether the record lives.";
    /// The record was deleted where deletes do not flow from.
    DeleteAgainstFlow = 3008, Rejected, "Decide with `concord review resolve` whether the record is made anew there.";
    /// A field was edited where its edits do not flow from.
    EditAgainstFlow = 3009, Rejected, "Decide with `concord review resolve` whether the edit stays.";
    /// A record failed a validation rule.
    ValidationFailed = 3010, Rejected, "Correct the record in the system named: it is read again at its next change, or with `concord review retry`.";
    /// A field keeps changing through our own writes.
    LoopDetected = 3011, Rejected, "Find what writes the value back (a trigger, a workflow, another integration), then `concord review retry`.";
    /// `on_delete: soft_delete` without a field to set.
    SoftDeleteFieldMissing = 3012, Rejected, "Name the field in `soft_delete_field`.";
    /// Several records could be the match.
    MatchAmbiguous = 3013, Rejected, "Choose the candidate with `concord review resolve`, or make the match fields unique.";
    /// Another record of the same member already has this match.
    MatchDuplicate = 3014, Rejected, "Merge the duplicates in the system named, or let this one be a record of its own with `concord review resolve`.";
    /// Every attempt to write the record failed.
    RetriesExhausted = 3015, Rejected, "Remove the cause that the last error names, then `concord review retry`.";
    /// The guard missed again and again, and a read shows nothing new.
    GuardNeverHolds = 3016, Rejected, "A field of the record does not compare equal to itself in the system: leave it out of the mapping, or report it.";
    /// More records went away than the guard lets through.
    MassDelete = 3017, Stop, "Look whether the deletes are meant. `concord review retry` lets them through, `concord review ignore` makes the records anew.";
    /// The record may be there, but we may not see it.
    Forbidden = 3018, Rejected, "Grant the right to read the record, then `concord review retry`.";
    /// No such review item, or it is closed.
    UnknownReview = 3019, BadInput, "See `concord review list`.";
    /// The resolution does not fit the review item.
    BadResolution = 3020, BadInput, "See `concord review show` for what can be done about the item.";
    /// No such sync.
    UnknownSync = 3021, BadInput, "See `concord status` for the syncs that run.";
    /// It cannot be told whether a record was made.
    CreateUnproven = 3022, Rejected, "Look in the system named whether the record is there. If it is not, `concord review retry` makes it; if it is, `concord review ignore`, and link the two by a match field.";
    /// A record cannot be read.
    Unreadable = 3023, Rejected, "Correct in the system named what the reason says, then `concord review retry`.";
    /// Many records of a member show an earlier state than they did: it went back in time.
    WentBack = 3024, Stop, "Decide with `concord review resolve`: take the view of the restored system, or that of the other, from which what was lost is written back.";
    /// A record waits for one that it refers to.
    ReferenceWaits = 3025, Throttled, "Nothing to do: it goes on when that record is there. If it lasts, `concord explain` says which one it is: look what keeps that one (review, a pause, its system).";
    /// A record refers to one that is not there.
    ReferenceUnknown = 3026, Rejected, "Make the record that it refers to, or correct the reference: it then goes on by itself.";
    /// A record refers to one that is not kept where it is to be written.
    ReferenceNotKept = 3027, Rejected, "Correct the reference, or bring the record that it refers to there: it then goes on by itself.";
    /// Two records need each other before either can be made.
    ReferenceKnot = 3028, Rejected, "Let one of the fields be empty where the records are made, or make one of them there by hand.";
    /// Other records still refer to a record that is to be deleted.
    StillReferred = 3029, Transient, "Nothing to do: it is tried again, for those records may be on their way out as well. If it lasts, delete them or correct their references.";
    /// Another record of the target has a value that must be unique.
    ValueTaken = 3030, Rejected, "Look which record of the target has the value: change or remove it there, then `concord review retry`. Records that only exchange their values find their places by themselves.";

    // 31xx: values and transformations.
    /// A text that should have been a value of some type is none.
    ValueMalformed = 3101, Rejected, "Correct the value in the system it comes from, then retry the record from review.";
    /// A mapping names a transformation that there is none of.
    TransformUnknown = 3110, BadInput, "Use one of the transformations that docs/transformations.md lists.";
    /// An argument of a transformation is missing, unknown or of the wrong kind.
    TransformArgument = 3111, BadInput, "Correct the argument named; docs/transformations.md lists them with examples.";
    /// An expression cannot be read.
    ExpressionInvalid = 3112, BadInput, "Correct the expression at the place named.";
    /// A transformation has no answer for a value.
    TransformFailed = 3113, Rejected, "Correct the value in the system it comes from, or change the mapping, then retry the record from review.";

    // 32xx: validation rules.
    /// A validation rule is unknown, or an argument of it is missing or wrong.
    RuleInvalid = 3201, BadInput, "Correct the rule; docs/transformations.md lists the rules with examples.";

    // 40xx: the store.
    /// The store could not be written or read.
    StoreFailed = 4001, Stop, "Check the disk and the store file named, then start again: nothing that was acknowledged is lost.";
    /// The disk that holds the store is full.
    StoreFull = 4002, Stop, "Free space on the disk that holds the store, then start again: nothing that was acknowledged is lost.";
    /// Another process works on the store.
    StoreInUse = 4003, Stop, "Stop the process named in the message, or give this one another folder for its store.";
    /// The store was written by a newer version.
    StoreTooNew = 4004, Stop, "Run the version of Concord that wrote the store, or a later one.";
    /// The store was written by an older version and is opened to look only.
    StoreTooOld = 4005, Stop, "Run `concord run` once with this version: it brings the store to its format.";
    /// The file is something else than a store.
    StoreForeign = 4006, Stop, "Give Concord a folder of its own for its store: the file named is something else.";
    /// The store holds something that cannot be read.
    StoreDamaged = 4007, Stop, "Keep a copy of the store's folder, then restore a backup of it or begin with a new one; report it with the message.";
    /// There is no store to look at.
    StoreMissing = 4008, Stop, "Check the folder of the store, or run `concord run`, which makes one.";
    /// A write was asked of a store that was opened to look only.
    StoreReadOnly = 4009, Stop, "Use a command that changes things, which takes the store's lock.";
    /// The file system does not let us use the store.
    StoreDenied = 4010, Stop, "Give the user that runs Concord the right to read and write the store's folder and every file in it.";

    // 50xx: running, and the command line.
    /// Something that should be impossible happened.
    Internal = 5001, Stop, "Report this with the log: it is a defect.";
    /// The first run has no approved plan.
    PlanNotApproved = 5002, BadInput, "Look at the plan with `concord plan`, then run with --approve and the plan's id.";
    /// No plan has this id.
    PlanUnknown = 5003, BadInput, "Make a plan with `concord plan` and use the id that it prints.";
    /// The approved plan is not what would happen now.
    PlanStale = 5004, BadInput, "Look at the new plan with `concord plan` and approve that one.";
    /// Nothing is known of this record.
    RecordUnknown = 5005, BadInput, "Give the record's key as `concord review show` and `concord verify` print it.";
    /// The running process could not be asked.
    ControlFailed = 5006, Stop, "Check that the running `concord run` still answers; restart it if it does not.";
    /// A file could not be read or written.
    FileUnusable = 5007, Stop, "Check that the file named exists and who may read and write it.";
    /// The port could not be opened.
    PortTaken = 5008, Stop, "Choose another port.";
    /// A system that the demo started does not do what it should.
    DemoServerFailed = 5009, Stop, "The message has the last lines of its log. Run the demo on other systems: `concord demo --help` says how.";
    /// A command's argument is wrong.
    ArgumentWrong = 5010, BadInput, "Correct the argument named; --help shows an example.";
    /// The program that simulates a system for the demo is not there.
    DemoSimulatorMissing = 5011, Stop, "Build it beside `concord`: cargo build --package concord-simulators. Or show two databases instead: `concord demo --help` says how.";
    /// What would be released serves syncs that were not named.
    ReleaseShared = 5012, BadInput, "Name every file whose syncs run there, or stop the process first: the syncs that are left then read both sides again when they next start.";
    /// A sync names another object than the one that its records were linked in.
    SyncMoved = 5013, BadInput, "Give the sync another name: it then begins with a plan of its own. Or put the object back that the message names.";
    /// The person did not consent that we act in their name.
    ConsentDenied = 5020, Stop, "Ask somebody who may consent, then run `concord connect` again.";
    /// Nobody answered in the browser in time.
    ConsentTimedOut = 5021, Stop, "Run `concord connect` again and open the address that it prints; `--timeout` gives more time.";
    /// The browser brought an answer that belongs to another question.
    ConsentForeign = 5022, Stop, "Run `concord connect` again and open the address that it prints, in a window of its own. Nothing was accepted.";
    /// The system did not take the person's consent.
    ConsentRefused = 5023, Stop, "Run `concord connect` again: a code is good for one use, within minutes. If it lasts, compare client_id, login_url, the scopes and the callback address with what the application is set up with.";
    /// The connection needs nobody's consent.
    NothingToConnect = 5024, BadInput, "Nothing to do: `concord check --connect` says whether the connection works.";
}

impl Code {
    /// Whether a feed cannot be resumed: changes may have been missed, or were lost.
    pub fn is_gap(self) -> bool {
        matches!(self, Code::FeedGap | Code::FeedRewound)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CON-{:04}", self.number())
    }
}

impl serde::Serialize for Code {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Code {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Code::ALL
            .iter()
            .copied()
            .find(|code| code.to_string() == text)
            .ok_or_else(|| serde::de::Error::custom(format!("unknown error code {text}")))
    }
}

/// An error with a stable code, where it happened and what lies beneath.
/// `Display` prints code and message, never the source: log the chain with [`Error::chain`].
#[derive(Clone, Debug)]
pub struct Error {
    /// The stable code.
    pub code: Code,
    /// What happened, in one sentence, with the names a person needs. Never a secret, never a record's values.
    pub message: String,
    /// Where: `file:line:column`, a system, an object, a record.
    pub at: Option<String>,
    /// When the system said to come back.
    pub retry_after: Option<Duration>,
    /// What lies beneath.
    pub source: Option<std::sync::Arc<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// A new error of this code.
    pub fn new(code: Code, message: impl Into<String>) -> Error {
        Error { code, message: message.into(), at: None, retry_after: None, source: None }
    }

    /// Says where.
    #[must_use]
    pub fn at(mut self, at: impl Into<String>) -> Error {
        self.at = Some(at.into());
        self
    }

    /// Says what lies beneath.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        self.source = Some(std::sync::Arc::from(source.into()));
        self
    }

    /// Whether a call about many records may have failed because of a single one of them, so that the others are worth
    /// asking without it.
    pub fn may_be_one_records(&self) -> bool {
        matches!(self.class(), Class::Rejected | Class::BadInput | Class::Stale) || self.code == Code::StatementRefused
    }

    /// What is to be done with this failure.
    pub fn class(&self) -> Class {
        self.code.class()
    }

    /// Code, message and every source beneath, for a log line.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut next = std::error::Error::source(self);
        while let Some(source) = next {
            text.push_str(": ");
            text.push_str(&source.to_string());
            next = source.source();
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code, self.message)?;
        if let Some(at) = &self.at {
            write!(f, " ({at})")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn std::error::Error + 'static))
    }
}

/// The result of anything that can fail at a border.
pub type Result<T> = std::result::Result<T, Error>;
