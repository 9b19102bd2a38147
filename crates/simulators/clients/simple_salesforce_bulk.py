"""simple-salesforce: Bulk API 2.0 both ways."""

from simple_salesforce import Salesforce

from simulator import HTTPS, control, records, same

session = control("POST", "/session")
sf = Salesforce(session_id=session["access_token"], instance_url=HTTPS, version="65.0")
control("POST", "/schema", {"objects": [{"name": "Account", "fields": [
    {"name": "Ext__c", "type": "string", "length": 40, "externalId": True, "unique": True}]}]})

# Load.
rows = [{"Name": f"Bulk {n}", "Ext__c": f"B{n}", "Phone": "1" if n % 2 else ""} for n in range(3000)]
results = sf.bulk2.Account.insert(records=rows)
same(sum(r["numberRecordsProcessed"] for r in results), 3000, "how many were processed")
same(sum(r["numberRecordsFailed"] for r in results), 0, "how many failed")
own = records("Account")
same({r["Ext__c"]: (r["Name"], r["Phone"]) for r in own.values()},
     {r["Ext__c"]: (r["Name"], r["Phone"] or None) for r in rows}, "what was loaded")

# Upsert: one is new, one changes, one is refused; the refusal is tied to its row.
results = sf.bulk2.Account.upsert(records=[{"Ext__c": "B1", "Name": "One"}, {"Ext__c": "NEW", "Name": "New"},
                                           {"Ext__c": "B2", "Name": "x" * 300}], external_id_field="Ext__c")
same((results[0]["numberRecordsProcessed"], results[0]["numberRecordsFailed"]), (3, 1), "a partial failure")
failed = sf.bulk2.Account.get_failed_records(results[0]["job_id"])
assert "STRING_TOO_LONG" in failed and '"B2"' in failed, failed
created = sf.bulk2.Account.get_successful_records(results[0]["job_id"])
assert '"true"' in created and '"false"' in created, created
by_key = {r["Ext__c"]: r for r in records("Account").values()}
same((by_key["B1"]["Name"], by_key["B2"]["Name"], by_key["NEW"]["Name"]), ("One", "Bulk 2", "New"), "what was upserted")

# An empty cell says nothing, #N/A says null.
sf.bulk2.Account.update(records=[{"Id": by_key["B1"]["Id"], "Name": "", "Phone": "#N/A"}])
one = records("Account")[by_key["B1"]["Id"]]
same((one["Name"], one["Phone"]), ("One", None), "empty and #N/A")

# Delete, and a job that cannot be read.
sf.bulk2.Account.delete(records=[{"Id": by_key["NEW"]["Id"]}])
assert by_key["NEW"]["Id"] not in records("Account")

# Read in pages.
pages = list(sf.bulk2.Account.query("SELECT Id, Name, Owner.Username FROM Account", max_records=1000))
same(len(pages), 3, "pages")
import csv
import io
read = [row for page in pages for row in csv.DictReader(io.StringIO(page))]
own = records("Account")
same({r["Id"]: r["Name"] for r in read}, {key: r["Name"] for key, r in own.items()}, "what was read")
assert read[0]["Owner.Username"], read[0]
print("simple-salesforce: bulk agrees")
