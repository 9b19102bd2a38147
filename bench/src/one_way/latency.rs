//! Changes as they come: how long each is under way while another session commits 1,000 a second.

use super::{DATABASE, LAST, PROBE, Size, WORK_WAIT_MAX, arrived};
use crate::server::{Server, connect};
use crate::{Failure, Result};
use std::time::{Duration, Instant};
use tokio_postgres::AsyncMessage;
use tokio_util::task::TaskTracker;

/// From a commit's return at the source until a listener at the target is told, in milliseconds, while another session
/// commits 1,000 changes a second.
pub async fn latency([left, right]: [&Server; 2], size: &Size) -> Result<Vec<f64>> {
    let target = right.session().await?;
    target
        .batch_execute(&format!(
            "CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_notify('probe', NEW.tally::text); RETURN NULL; END $$; \
             CREATE TRIGGER tell AFTER INSERT OR UPDATE ON items FOR EACH ROW WHEN (NEW.id = {PROBE}) EXECUTE FUNCTION tell(); \
             ALTER TABLE items ENABLE ALWAYS TRIGGER tell"
        ))
        .await?;
    let (listener, mut connection) = connect(right.port(), DATABASE).await?;
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    TaskTracker::new().spawn(async move {
        while let Some(Ok(message)) = std::future::poll_fn(|context| connection.poll_message(context)).await {
            if let AsyncMessage::Notification(notification) = message {
                let tally: i32 = notification.payload().parse().unwrap_or_default();
                if tell.send((tally, Instant::now())).is_err() {
                    return;
                }
            }
        }
    });
    listener.batch_execute("LISTEN probe").await?;
    let until = Instant::now() + Duration::from_secs(size.load_seconds);
    let writing = load(left, size.rows, until);
    let probing = async {
        let prober = left.session().await?;
        let probe = prober.prepare("UPDATE items SET tally = tally + 1 WHERE id = $1 RETURNING tally").await?;
        let mut latencies = Vec::new();
        while Instant::now() < until {
            let mark: i32 = prober.query_one(&probe, &[&PROBE]).await?.try_get(0)?;
            let committed = Instant::now();
            loop {
                let (tally, at) = tokio::time::timeout(WORK_WAIT_MAX, told.recv()).await?.ok_or("the listener is gone")?;
                if tally >= mark {
                    latencies.push(at.saturating_duration_since(committed).as_secs_f64() * 1_000.0);
                    break;
                }
            }
            tokio::time::sleep(Duration::from_millis(13)).await;
        }
        Ok::<_, Failure>(latencies)
    };
    let ((), latencies) = tokio::try_join!(writing, probing)?;
    let mark: i32 = target.query_one("SELECT tally + 1 FROM items WHERE id = $1", &[&LAST]).await?.try_get(0)?;
    left.session().await?.execute("UPDATE items SET tally = $1 WHERE id = $2", &[&mark, &LAST]).await?;
    arrived(right, mark).await?;
    target.batch_execute("DROP FUNCTION tell CASCADE").await?;
    Ok(latencies)
}

async fn load(left: &Server, rows: i32, until: Instant) -> Result<()> {
    let writer = left.session().await?;
    let update = writer.prepare("UPDATE items SET amount = amount + 1, tally = tally + 1 WHERE id = $1").await?;
    let mut due = Instant::now();
    for number in 0.. {
        if Instant::now() >= until {
            break;
        }
        tokio::time::sleep_until(due.into()).await;
        writer.execute(&update, &[&(number % rows + 1)]).await?;
        due += Duration::from_millis(1);
    }
    Ok(())
}
