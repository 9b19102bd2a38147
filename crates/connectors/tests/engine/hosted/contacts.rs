//! Accounts and contacts in a hosted CRM and a database: a contact names its account by the id that it has on its side.

use super::stage::Stage;
use crate::support::wait_until;
use serde_json::json;

const WHOSE: &str = "SELECT c.last_name || ' of ' || coalesce(a.account_name, 'nobody') FROM contacts c
    LEFT JOIN accounts a ON a.id = c.account_id ORDER BY 1";

#[tokio::test]
async fn a_contacts_account_is_the_same_account_on_both_sides() {
    let stage = Stage::contacts(json!({})).await.start().await;
    stage.row("INSERT INTO accounts (account_name) VALUES ('Acme')").await;
    stage.row("INSERT INTO contacts (last_name, account_id) SELECT 'Ann', id FROM accounts").await;
    stage.wait("a contact", || stage.org.records("Contact").len() == 1).await;
    let acme = stage.accounts()[0]["Id"].clone();
    assert_eq!(stage.org.records("Contact")[0]["AccountId"], acme);

    // Made together in the org, the contact may be told of before its account.
    let bolt = stage.org.create("Account", json!({"Name": "Bolt"}));
    let bob = stage.org.create("Contact", json!({"LastName": "Bob", "AccountId": bolt}));
    stage.wait_for_rows(WHOSE, &["Ann of Acme", "Bob of Bolt"]).await;
    stage.org.update("Contact", &bob, json!({"AccountId": acme}));
    stage.wait_for_rows(WHOSE, &["Ann of Acme", "Bob of Acme"]).await;
    stage.row("UPDATE contacts SET account_id = NULL WHERE last_name = 'Bob'").await;
    stage
        .wait("nobody's", || stage.org.records("Contact").iter().any(|one| one["Id"] == json!(bob) && one["AccountId"].is_null()))
        .await;
    assert_eq!(stage.waiting("contacts").await, 0);
    assert!(stage.reviews().await.is_empty(), "{:#?}", stage.reviews().await);
    stage.stop().await;
}

// The user may not listen to one object any more, and that is put right after a while. It alone is opened again, as often as it takes.
#[tokio::test]
async fn events_of_one_object_that_cannot_be_had_stop_no_other_object() {
    let stage = Stage::contacts(json!({})).await.with_options(json!({"events": "grpc"})).start().await;
    stage.passes_a_beat().await;
    let refused = json!({"stream_end": {"status": 7, "error_code": "", "message": "not allowed"}});
    stage.org.fault(json!({"on": {"path": "ContactChangeEvent"}, "times": null, "do": refused}));
    let bob = stage.org.create("Contact", json!({"LastName": "Bob"}));
    let feed = |object: &str| stage.status().feeds.into_iter().find(|feed| feed.feed.contains(object)).unwrap_or_default();
    stage.wait("the contacts' feed is lost", || feed("Contact").state.contains("CON-")).await;
    let asked_for = |topic: &str| {
        let entries = stage.org.simulator.org.journal.since(0);
        entries.iter().filter(|entry| entry.method == "GetTopic" && entry.path.contains(topic)).count()
    };
    let (accounts, contacts) = (asked_for("AccountChangeEvent"), asked_for("ContactChangeEvent"));
    for _ in 0..5 {
        stage.passes_a_beat().await;
    }
    assert!(!feed("Account").state.contains("CON-"), "{:?}", feed("Account"));
    // For a moment it is read again, each time that it is opened.
    stage.wait("the contacts' feed is lost still", || feed("Contact").state.contains("CON-")).await;
    stage.org.simulator.org.faults.clear();
    stage.shows(&format!("SELECT count(*) FROM contacts WHERE sf_id = '{bob}'"), "1").await;
    stage.wait("the contacts' feed goes on", || !feed("Contact").state.contains("CON-")).await;
    assert!(contacts > 0 && asked_for("ContactChangeEvent") > contacts, "the feed of the contacts was opened again");
    assert_eq!(asked_for("AccountChangeEvent"), accounts, "that of the accounts went on undisturbed");
    stage.stop().await;
}

#[tokio::test]
async fn contacts_are_loaded_after_their_accounts_and_accounts_that_name_each_other_are_joined() {
    let stage = Stage::contacts(json!({})).await;
    let mut ids = Vec::new();
    for number in 0..40 {
        ids.push(stage.org.create("Account", json!({"Name": format!("crm {number}")})));
        stage.org.create("Contact", json!({"LastName": format!("c{number}"), "AccountId": ids[number]}));
    }
    stage.org.update("Account", &ids[0], json!({"ParentId": ids[1]}));
    stage.row("INSERT INTO accounts (id, account_name, parent_id) VALUES (1, 'one', 2), (2, 'two', 1)").await;
    stage.row("INSERT INTO contacts (last_name, account_id) VALUES ('x', 1), ('y', 2)").await;
    let stage = stage.start().await;
    stage.shows("SELECT count(*) FROM contacts WHERE sf_id IS NOT NULL AND account_id IS NOT NULL", "42").await;
    let of = |name: &str| stage.accounts().into_iter().find(|one| one["Name"] == json!(name)).unwrap_or_default();
    stage
        .wait("joined", || of("one").get("ParentId") == of("two").get("Id") && of("two").get("ParentId") == of("one").get("Id"))
        .await;
    stage.shows("SELECT count(*) FROM accounts a JOIN accounts p ON p.id = a.parent_id WHERE a.account_name = 'crm 0' AND p.account_name = 'crm 1'", "1").await;
    assert!(stage.reviews().await.is_empty(), "{:#?}", stage.reviews().await);
    stage.stop().await;
}

#[tokio::test]
async fn a_contact_waits_while_its_account_is_refused_and_a_kill_changes_nothing() {
    let rules =
        json!({"validation": [{"object": "Account", "when": "Name = 'Bad'", "message": "Not this one", "field": "Name"}]});
    let stage = Stage::contacts(rules).await.start().await;
    stage.row("INSERT INTO accounts (account_name) VALUES ('Bad')").await;
    stage.row("INSERT INTO contacts (last_name, account_id) SELECT 'Ann', id FROM accounts").await;
    stage.wait_for_reviews(1).await;
    let waiting = async |stage: &Stage| stage.waiting("contacts").await == 1;
    wait_until("the contact waits", || waiting(&stage)).await;
    let stage = stage.crash().await.start().await;
    stage.row("UPDATE accounts SET account_name = 'Good'").await;
    stage.wait("a contact", || stage.org.records("Contact").len() == 1).await;
    assert_eq!(stage.org.records("Contact")[0]["AccountId"], stage.accounts()[0]["Id"]);
    stage.wait_for_reviews(0).await;
    // The account goes, and with it what the org deletes along with it.
    let id = stage.accounts()[0]["Id"].as_str().unwrap().to_owned();
    stage.org.delete("Account", &id);
    stage.shows("SELECT count(*) FROM accounts", "0").await;
    stage.shows("SELECT count(*) FROM contacts", "0").await;
    assert_eq!(stage.waiting("contacts").await, 0);
    stage.stop().await;
}

#[tokio::test]
async fn what_is_told_of_before_what_it_names_waits_and_records_that_name_each_other_are_joined_either_way() {
    let stage = Stage::contacts(json!({})).await.start().await;
    // The account's event comes a second behind its contact's.
    stage.org.fault(json!({"on": {"object": "Account", "change": "CREATE"}, "do": {"late": {"ms": 1000}}}));
    let acme = stage.org.create("Account", json!({"Name": "Acme"}));
    stage.org.create("Contact", json!({"LastName": "Ann", "AccountId": acme}));
    wait_until("the contact waits", || async { stage.waiting("contacts").await == 1 }).await;
    assert_eq!(stage.value("SELECT count(*) FROM accounts").await, "0", "nobody has heard of the account");
    stage.wait_for_rows(WHOSE, &["Ann of Acme"]).await;

    // Two accounts that name each other, made in the database in one go, and in the org one after the other.
    stage.row("INSERT INTO accounts (id, account_name, parent_id) VALUES (1, 'one', 2), (2, 'two', 1)").await;
    let of = |name: &str| stage.accounts().into_iter().find(|one| one["Name"] == json!(name)).unwrap_or_default();
    let named =
        |child: &str, parent: &str| of(child).get("ParentId").is_some() && of(child).get("ParentId") == of(parent).get("Id");
    stage.wait("both name each other", || named("one", "two") && named("two", "one")).await;
    let three = stage.org.create("Account", json!({"Name": "three"}));
    let four = stage.org.create("Account", json!({"Name": "four", "ParentId": three}));
    stage.org.update("Account", &three, json!({"ParentId": four}));
    let joined = "SELECT string_agg(a.account_name || '>' || p.account_name, ' ' ORDER BY a.account_name)
        FROM accounts a JOIN accounts p ON p.id = a.parent_id";
    stage.shows(joined, "four>three one>two three>four two>one").await;
    stage.passes_a_beat().await;
    assert_eq!(stage.all_accounts().len(), 6, "each made once: five, and the beat in the bin");
    assert_eq!(stage.waiting("accounts").await + stage.waiting("contacts").await, 0);
    assert!(stage.reviews().await.is_empty(), "{:#?}", stage.reviews().await);
    stage.stop().await;
}

#[tokio::test]
async fn what_hangs_on_an_account_that_is_merged_away_hangs_on_the_winner_on_both_sides() {
    let stage = Stage::contacts(json!({})).await.start().await;
    let [winner, loser] = ["Winner", "Loser"].map(|name| stage.org.create("Account", json!({"Name": name})));
    for (name, account) in [("Ann", &winner), ("Bob", &loser), ("Cid", &loser)] {
        stage.org.create("Contact", json!({"LastName": name, "AccountId": account}));
    }
    stage.wait_for_rows(WHOSE, &["Ann of Winner", "Bob of Loser", "Cid of Loser"]).await;
    let ids = (stage.org.id(&winner), [stage.org.id(&loser)]);
    stage.org.simulator.person().merge("Account", ids.0, &ids.1, &serde_json::Map::new()).unwrap();
    stage.wait_for_rows(WHOSE, &["Ann of Winner", "Bob of Winner", "Cid of Winner"]).await;
    stage.wait_for_rows("SELECT account_name FROM accounts", &["Winner"]).await;
    stage.row("UPDATE contacts SET first_name = 'B.' WHERE last_name = 'Bob'").await;
    let renamed =
        || stage.org.records("Contact").iter().any(|one| one["FirstName"] == json!("B.") && one["AccountId"] == json!(winner));
    stage.wait("it goes on", renamed).await;
    assert!(stage.reviews().await.is_empty(), "{:#?}", stage.reviews().await);
    stage.stop().await;
}

#[tokio::test]
async fn an_account_that_takes_its_contacts_into_the_bin_and_out_again_does_so_on_both_sides() {
    let stage = Stage::contacts(json!({})).await.start().await;
    let acme = stage.org.create("Account", json!({"Name": "Acme"}));
    let bolt = stage.org.create("Account", json!({"Name": "Bolt"}));
    for (name, account) in [("Ann", &acme), ("Bob", &acme), ("Cid", &bolt)] {
        stage.org.create("Contact", json!({"LastName": name, "AccountId": account}));
    }
    stage.wait_for_rows(WHOSE, &["Ann of Acme", "Bob of Acme", "Cid of Bolt"]).await;
    stage.org.delete("Account", &acme);
    stage.wait_for_rows(WHOSE, &["Cid of Bolt"]).await;
    stage.wait_for_rows("SELECT account_name FROM accounts", &["Bolt"]).await;
    stage.org.simulator.person().undelete("Account", stage.org.id(&acme)).unwrap();
    stage.wait_for_rows(WHOSE, &["Ann of Acme", "Bob of Acme", "Cid of Bolt"]).await;
    assert_eq!((stage.accounts().len(), stage.org.records("Contact").len()), (2, 3), "nothing was made twice in the org");
    assert_eq!(stage.waiting("contacts").await, 0);
    assert!(stage.reviews().await.is_empty(), "{:#?}", stage.reviews().await);
    stage.stop().await;
}
