//! The day's calls: what can wait leaves the last of them to people's edits, whoever has used the others.

use crate::support::*;
use concord_connectors::salesforce::SalesforceConnector;
use concord_engine::connector::{ChunkCursor, Connector, Outcome, Write};
use concord_engine::error::{Class, Code};
use concord_engine::value::Value;
use concord_simulators::salesforce::Limit;
use serde_json::json;
use std::sync::Arc;

/// Other programs make so many calls, and the connector hears of it.
async fn others_call(org: &Org, connector: &SalesforceConnector, calls: u64) {
    assert!(org.simulator.org.state().limits.take(Limit::DailyApiRequests, calls, org.simulator.org.clock.now_ms()));
    connector.count(&"Account".into()).await.unwrap();
}

fn named(number: u64) -> Write {
    Write { id: number, operation: create(fields([("Name", Value::text(format!("n{number}")))])) }
}

#[tokio::test]
async fn while_others_have_used_most_of_the_calls_a_first_load_waits_and_an_edit_does_not() {
    for bulk_above in [2_000, 5] {
        let org = Org::new().await;
        let connector = org.connect_with(json!({"bulk_above": bulk_above}));
        let selection = accounts(&["Name"]);
        let writes: Vec<Write> = (0..10).map(named).collect();
        others_call(&org, &connector, 79_000).await;
        let made = connector.load(&selection, &mark(1), &writes).await.unwrap();
        assert!(made.iter().all(|one| matches!(one.outcome, Outcome::Written { .. })), "a fifth is left: {made:#?}");
        connector.snapshot(&selection, &ChunkCursor::default(), 100).await.unwrap();

        others_call(&org, &connector, 20_900).await;
        let calls = org.requests("/services/data");
        let refused = connector.load(&selection, &mark(2), &writes).await.unwrap();
        for one in refused {
            let Outcome::Failed(error) = one.outcome else { panic!("{one:?}") };
            assert_eq!((error.class(), error.code), (Class::Throttled, Code::HostedAllowanceUsed));
            assert!(error.message.contains("leaves the rest"), "{error}");
            assert!(error.retry_after.is_some());
        }
        assert_eq!(org.requests("/services/data"), calls, "nothing was asked for it");
        let error = connector.snapshot(&selection, &ChunkCursor::default(), 100).await.unwrap_err();
        assert_eq!(error.code, Code::HostedAllowanceUsed);
        let made = apply(&connector, &selection, vec![named(20).operation]).await;
        assert!(matches!(made[..], [Outcome::Written { .. }]), "what people do goes on: {made:#?}");
        assert_eq!(org.records("Account").len(), 11);
    }
}

// A process that is started again and again would have a whole share each time.
#[tokio::test]
async fn what_was_used_before_a_restart_counts_as_used() {
    const SHARE: usize = 100;
    let org = Org::new().await;
    org.simulator.org.state().limits.set_max(Limit::DailyApiRequests, 1_000);
    let shelf = Arc::new(Shelf::default());
    let secret = org.secret("client_secret", "simulated-secret");
    let mut connection = org.connection(json!({"client_secret": secret}), json!({}));
    connection["rate_limit"] = json!({"requests": 1_000, "daily_quota_share": 0.1});
    // Nobody says good-bye: each is killed where it stands, the third where its share is used.
    let mut refused = None;
    for life in 0..3 {
        let connector = shelf.open(&connection).unwrap();
        for call in 0..SHARE {
            if life < 2 && call == 35 {
                break;
            }
            refused = connector.count(&"Account".into()).await.err();
            if refused.is_some() {
                break;
            }
        }
        assert_eq!(refused.is_some(), life == 2, "{refused:?}");
    }
    let refused = refused.unwrap();
    assert_eq!((refused.code, refused.class()), (Code::HostedAllowanceUsed, Class::Throttled));
    let calls = org.requests("/services/data");
    assert!((SHARE - 30..=SHARE).contains(&calls), "{calls} calls were made");
}

#[tokio::test]
async fn a_call_whose_answer_was_lost_counts_as_one_of_ours() {
    let org = Org::new().await;
    let connector = org.connect();
    connector.count(&"Account".into()).await.unwrap();
    let before = connector.allowance().unwrap().own;
    org.fault(json!({"on": {"path": "/query"}, "do": "answer_lost"}));
    connector.count(&"Account".into()).await.unwrap_err();
    assert_eq!(connector.allowance().unwrap().own, before + 1);
}
