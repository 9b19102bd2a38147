"""simple-salesforce: create, query over several pages, update, upsert, delete, describe, replication, errors."""

import gzip
import json
from datetime import datetime, timedelta, timezone

from simple_salesforce import Salesforce
from simple_salesforce.exceptions import SalesforceMalformedRequest, SalesforceResourceNotFound

from simulator import HTTPS, control, records, same

session = control("POST", "/session")
sf = Salesforce(session_id=session["access_token"], instance_url=HTTPS, version="65.0")
control("POST", "/schema", {"objects": [{"name": "Account", "fields": [
    {"name": "Ext__c", "type": "string", "length": 40, "externalId": True, "unique": True},
    {"name": "Score__c", "type": "double", "precision": 18, "scale": 4}]}]})

# Create, read.
made = sf.Account.create({"Name": "  Acme ", "AnnualRevenue": 350000000, "BillingCity": "Köln", "Phone": "", "Score__c": 1.23456})
assert made["success"] and len(made["id"]) == 18, made
acme = sf.Account.get(made["id"])
acme.pop("attributes")
own = records("Account")[made["id"]]
own.pop("attributes")
same(dict(acme), own, "a record that was read")
same((acme["Name"], acme["Phone"], acme["AnnualRevenue"], acme["Score__c"]), ("Acme", None, 3.5e8, 1.2346), "what was stored")

# A body that comes compressed, and answers that do.
packed = sf.restful("sobjects/Account", method="POST", data=gzip.compress(json.dumps({"Name": "Packed"}).encode()),
                    headers={"Content-Encoding": "gzip"})
same(records("Account")[packed["id"]]["Name"], "Packed", "a compressed body")
for accepted in ("gzip", "deflate"):
    same(sf.restful("sobjects/Account/" + packed["id"], headers={"Accept-Encoding": accepted})["Name"], "Packed", accepted)
    same(control("GET", "/journal")[-1]["answer_coding"], accepted, "how it was compressed")
try:
    sf.restful("sobjects/Account", method="POST", data=b"not compressed", headers={"Content-Encoding": "gzip"})
    raise SystemExit("a broken body was taken")
except SalesforceMalformedRequest as error:
    same(error.status, 400, "a broken body")

# Several pages.
control("POST", "/person", {"do": "create", "object": "Account", "records": [
    {"Name": f"Account {n:05}", "NumberOfEmployees": n, "Ext__c": f"E{n}"} for n in range(4500)]})
found = sf.query_all("SELECT Id, Name, NumberOfEmployees, Owner.Username FROM Account ORDER BY Name")
own = records("Account")
same(found["totalSize"], len(own), "how many")
same({r["Id"]: (r["Name"], r["NumberOfEmployees"]) for r in found["records"]},
     {key: (r["Name"], r["NumberOfEmployees"]) for key, r in own.items()}, "all pages")
assert found["records"][0]["Owner"]["Username"].endswith(".example"), found["records"][0]
same([r["Name"] for r in found["records"]], sorted(r["Name"] for r in own.values()), "the order")
same(len(list(sf.query_all_iter("SELECT Id FROM Account WHERE Name LIKE 'Account 000%' AND NumberOfEmployees >= 50"))), 50, "a condition")
same(sf.query("SELECT COUNT() FROM Account")["totalSize"], len(own), "a count")
same(sf.query("SELECT COUNT(Id) n, MAX(NumberOfEmployees) most FROM Account")["records"][0]["most"], 4499, "an aggregate")

# Update, upsert, delete.
same(sf.Account.update(made["id"], {"Name": "Acme Corp", "Phone": "030 1"}), 204, "an update")
same(records("Account")[made["id"]]["Name"], "Acme Corp", "the new name")
same(sf.Account.upsert("Ext__c/E7", {"Name": "Seven"}), 200, "an upsert that updates")
same(sf.Account.upsert("Ext__c/NEW", {"Name": "New"}), 201, "an upsert that creates")
same(sf.Account.get_by_custom_id("Ext__c", "NEW")["Name"], "New", "a read by an external id")
same(sf.Account.delete(made["id"]), 204, "a delete")
assert made["id"] not in records("Account") and records("Account", True)[made["id"]]["IsDeleted"]
try:
    sf.Account.get(made["id"])
    raise SystemExit("a deleted record was read")
except SalesforceResourceNotFound as error:
    same(error.content[0]["errorCode"], "ENTITY_IS_DELETED", "the refusal")
deleted = sf.query_all("SELECT Id FROM Account WHERE IsDeleted = true", include_deleted=True)
same([r["Id"] for r in deleted["records"]], [made["id"]], "what lies in the bin")

# Errors.
for fields, code in [({}, "REQUIRED_FIELD_MISSING"), ({"Name": "x", "Nope": 1}, "INVALID_FIELD"),
                     ({"Name": "x", "Ext__c": "E1"}, "DUPLICATE_VALUE"), ({"Name": "x" * 300}, "STRING_TOO_LONG"),
                     ({"Name": "x", "CreatedDate": "2026-01-01T00:00:00Z"}, "INVALID_FIELD_FOR_INSERT_UPDATE")]:
    try:
        sf.Account.create(fields)
        raise SystemExit(f"{fields} was taken")
    except SalesforceMalformedRequest as error:
        same(error.content[0]["errorCode"], code, f"the refusal of {fields}")
try:
    sf.query("SELECT Nope FROM Account")
    raise SystemExit("a field that is not there was found")
except SalesforceMalformedRequest as error:
    same(error.content[0]["errorCode"], "INVALID_FIELD", "the refusal of a query")

# A tree is made as a whole or not at all: whoever is in the way is named.
before = (set(records("Account")), set(records("Contact")))
child = lambda reference, fields: {"attributes": {"type": "Contact", "referenceId": reference}, **fields}
tree = {"records": [{"attributes": {"type": "Account", "referenceId": "a1"}, "Name": "Root", "Contacts": {"records": [
    child("c1", {"LastName": "One"}), child("c2", {"FirstName": "Nobody"})]}}]}
for reference, code in [("c2", "REQUIRED_FIELD_MISSING"), ("c1", "INVALID_INPUT")]:
    try:
        sf.restful("composite/tree/Account", method="POST", json=tree)
        raise SystemExit("a tree with a bad record was made")
    except SalesforceMalformedRequest as error:
        same(error.content["hasErrors"], True, "whether there are errors")
        same({(r["referenceId"], r["errors"][0]["statusCode"]) for r in error.content["results"]}, {(reference, code)}, "a tree's refusal")
    tree["records"][0]["Contacts"]["records"][1] = child("c1", {"LastName": "Again"})
same((set(records("Account")), set(records("Contact"))), before, "what a refused tree left")

# Describe.
fields = {field["name"]: field for field in sf.Account.describe()["fields"]}
same((fields["AnnualRevenue"]["type"], fields["Ext__c"]["externalId"], fields["BillingCity"]["compoundFieldName"]),
     ("currency", True, "BillingAddress"), "a describe")
assert {"Account", "Contact", "Lead", "Opportunity", "User"} <= {o["name"] for o in sf.describe()["sobjects"]}

# Replication.
control("POST", "/clock", {"advance_ms": 120000})
end = datetime.now(timezone.utc) + timedelta(minutes=2)
same([r["id"] for r in sf.Account.deleted(end - timedelta(hours=1), end)["deletedRecords"]], [made["id"]], "what was deleted")
same(set(sf.Account.updated(end - timedelta(hours=1), end)["ids"]), set(records("Account")), "what was updated")

allocation = sf.limits()["DailyApiRequests"]["Max"]
usage = sf.api_usage["api-usage"]
same(allocation, usage.total, "the allocation")
same(usage.used, len([e for e in control("GET", "/journal") if e["counted"]]), "the calls")
print("simple-salesforce: records agree")
