// Debezium's embedded engine reading one table of PostgreSQL, and its changes written into another by JDBC: batches as the engine
// hands them out, one upsert for each record, its last state, all of a batch in one transaction. What the engine keeps of its place
// is written behind that. Ends when it is told to (SIGTERM).
import io.debezium.embedded.Connect;
import io.debezium.engine.DebeziumEngine;
import io.debezium.engine.RecordChangeEvent;
import io.debezium.engine.format.ChangeEventFormat;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.connect.data.Struct;
import org.apache.kafka.connect.source.SourceRecord;

public class DebeziumSink {
    static final String UPSERT = "INSERT INTO items (id, code, name, note, amount, tally, updated) "
        + "VALUES (?, ?::uuid, ?, ?, ?::numeric, ?, ?::timestamptz) ON CONFLICT (id) DO UPDATE SET code = excluded.code, "
        + "name = excluded.name, note = excluded.note, amount = excluded.amount, tally = excluded.tally, updated = excluded.updated";

    static volatile boolean ending;

    public static void main(String[] arguments) throws Exception {
        String from = arguments[0], into = arguments[1], database = arguments[2], slot = arguments[3], offsets = arguments[4];
        Connection target = DriverManager.getConnection(
            "jdbc:postgresql://127.0.0.1:" + into + "/" + database + "?user=postgres&sslmode=disable&reWriteBatchedInserts=true");
        target.setAutoCommit(false);
        PreparedStatement upsert = target.prepareStatement(UPSERT);
        PreparedStatement delete = target.prepareStatement("DELETE FROM items WHERE id = ?");

        Properties settings = new Properties();
        settings.setProperty("name", "bench");
        settings.setProperty("connector.class", "io.debezium.connector.postgresql.PostgresConnector");
        settings.setProperty("offset.storage", "org.apache.kafka.connect.storage.FileOffsetBackingStore");
        settings.setProperty("offset.storage.file.filename", offsets);
        settings.setProperty("offset.flush.interval.ms", "1000");
        settings.setProperty("database.hostname", "127.0.0.1");
        settings.setProperty("database.port", from);
        settings.setProperty("database.user", "postgres");
        settings.setProperty("database.password", "none");
        settings.setProperty("database.dbname", database);
        settings.setProperty("topic.prefix", "bench");
        settings.setProperty("plugin.name", "pgoutput");
        settings.setProperty("slot.name", slot);
        settings.setProperty("publication.name", "native");
        settings.setProperty("publication.autocreate.mode", "disabled");
        settings.setProperty("table.include.list", "public.items");
        settings.setProperty("snapshot.mode", "no_data");
        settings.setProperty("decimal.handling.mode", "string");
        settings.setProperty("tombstones.on.delete", "false");
        // Else it waits for half a second wherever it has nothing at the moment.
        settings.setProperty("poll.interval.ms", "5");
        settings.setProperty("max.batch.size", "8192");
        settings.setProperty("max.queue.size", "32768");

        DebeziumEngine<RecordChangeEvent<SourceRecord>> engine = DebeziumEngine.create(ChangeEventFormat.of(Connect.class))
            .using(settings)
            .using((success, message, error) -> {
                System.err.println(message);
                if (error != null) {
                    error.printStackTrace();
                }
                // Whoever ends the process waits for this.
                if (!ending) {
                    System.exit(success ? 0 : 1);
                }
            })
            .notifying((List<RecordChangeEvent<SourceRecord>> records, DebeziumEngine.RecordCommitter<RecordChangeEvent<SourceRecord>> committer) -> {
                try {
                    write(records, target, upsert, delete);
                    for (RecordChangeEvent<SourceRecord> record : records) {
                        committer.markProcessed(record);
                    }
                    committer.markBatchFinished();
                } catch (java.sql.SQLException failed) {
                    throw new RuntimeException(failed);
                }
            })
            .build();
        Thread running = new Thread(engine);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            ending = true;
            try {
                engine.close();
                running.join(10_000);
            } catch (Exception failed) {
                failed.printStackTrace();
            }
        }));
        running.start();
        running.join();
    }

    /// No statement may meet a record twice: of each its last state is written.
    static void write(List<RecordChangeEvent<SourceRecord>> records, Connection target, PreparedStatement upsert,
            PreparedStatement delete) throws java.sql.SQLException {
        Map<Integer, Struct> last = new LinkedHashMap<>();
        for (RecordChangeEvent<SourceRecord> event : records) {
            if (event.record().key() instanceof Struct key && event.record().value() instanceof Struct change) {
                last.put(key.getInt32("id"), change.getStruct("after"));
            }
        }
        boolean deletes = false;
        for (Map.Entry<Integer, Struct> entry : last.entrySet()) {
            Struct row = entry.getValue();
            if (row == null) {
                delete.setInt(1, entry.getKey());
                delete.addBatch();
                deletes = true;
                continue;
            }
            upsert.setInt(1, row.getInt32("id"));
            upsert.setString(2, row.getString("code"));
            upsert.setString(3, row.getString("name"));
            upsert.setString(4, row.getString("note"));
            upsert.setString(5, row.getString("amount"));
            upsert.setInt(6, row.getInt32("tally"));
            upsert.setString(7, row.getString("updated"));
            upsert.addBatch();
        }
        upsert.executeBatch();
        if (deletes) {
            delete.executeBatch();
        }
        target.commit();
    }
}
