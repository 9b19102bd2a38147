// jsforce: collections, composite pages, upsert, replication, describe, logins, limits.
'use strict';

const jsforce = require('jsforce');
const { HTTP, assert, control, records, run, withExternalId } = require('./simulator.cjs');

run(async () => {
  await withExternalId();
  const session = await control('POST', '/session');
  const connection = new jsforce.Connection({
    instanceUrl: HTTP, accessToken: session.access_token, version: '65.0', callOptions: { client: 'agreeing' },
  });

  // Collections: more than one call's worth, results in order.
  const rows = Array.from({ length: 450 }, (_, n) => ({ Name: `Acme ${n}`, Ext__c: `X${n}`, NumberOfEmployees: n }));
  const made = await connection.sobject('Account').create(rows, { allowRecursive: true });
  assert.equal(made.length, 450);
  let own = await records('Account');
  made.forEach((result, n) => assert.deepEqual([result.success, own.get(result.id).Ext__c], [true, `X${n}`]));

  // Several pages, of the smallest size.
  const found = await connection.query('SELECT Id, Name FROM Account ORDER BY NumberOfEmployees', { autoFetch: true, maxFetch: 1000, headers: { 'Sforce-Query-Options': 'batchSize=200' } });
  assert.deepEqual(found.records.map((r) => r.Name), rows.map((r) => r.Name));

  // Update and a partial failure.
  const changed = await connection.sobject('Account').update([{ Id: made[0].id, Name: 'Zero' }, { Id: made[1].id, Name: 'x'.repeat(300) }]);
  assert.deepEqual(changed.map((r) => r.success), [true, false]);
  assert.equal(changed[1].errors[0].statusCode, 'STRING_TOO_LONG');
  own = await records('Account');
  assert.deepEqual([own.get(made[0].id).Name, own.get(made[1].id).Name], ['Zero', 'Acme 1']);

  // All or none.
  const whole = await connection.sobject('Account').update([{ Id: made[0].id, Name: 'Nought' }, { Id: made[1].id, Name: '' }], { allOrNone: true });
  assert.deepEqual(whole.map((r) => r.errors[0].statusCode), ['ALL_OR_NONE_OPERATION_ROLLED_BACK', 'REQUIRED_FIELD_MISSING']);
  assert.equal((await records('Account')).get(made[0].id).Name, 'Zero');

  // Upsert.
  const upserted = await connection.sobject('Account').upsert([{ Ext__c: 'X2', Name: 'Two' }, { Ext__c: 'NEW', Name: 'New' }], 'Ext__c');
  assert.deepEqual(upserted.map((r) => [r.success, r.created]), [[true, false], [true, true]]);

  // Retrieve, delete, the bin.
  const two = await connection.sobject('Account').retrieve([made[2].id, made[3].id]);
  assert.deepEqual(two.map((r) => r.Name), ['Two', 'Acme 3']);
  const gone = await connection.sobject('Account').destroy([made[3].id, made[4].id]);
  assert.ok(gone.every((r) => r.success));
  const bin = await connection.query('SELECT Id FROM Account WHERE IsDeleted = true', { scanAll: true });
  assert.deepEqual(bin.records.map((r) => r.Id).sort(), [made[3].id, made[4].id].sort());

  // Contacts of an account, by relationship and as children.
  const contact = await connection.sobject('Contact').create({ LastName: 'Lovelace', FirstName: 'Ada', AccountId: made[0].id });
  const parent = await connection.query(`SELECT Name, (SELECT Id, Name FROM Contacts) FROM Account WHERE Id = '${made[0].id}'`);
  assert.deepEqual(parent.records[0].Contacts.records.map((r) => [r.Id, r.Name]), [[contact.id, 'Ada Lovelace']]);
  const child = await connection.query("SELECT Account.Name, Account.Owner.Username FROM Contact WHERE Account.Name = 'zero'");
  assert.equal(child.records[0].Account.Name, 'Zero');

  // Replication, describe, limits.
  await control('POST', '/clock', { advance_ms: 180000 });
  const now = (await control('GET', '')).now_ms;
  const deleted = await connection.sobject('Account').deleted(new Date(now - 3600000), new Date(now));
  assert.deepEqual(deleted.deletedRecords.map((r) => r.id).sort(), [made[3].id, made[4].id].sort());
  const updated = await connection.sobject('Account').updated(new Date(now - 3600000), new Date(now));
  assert.deepEqual(new Set(updated.ids), new Set((await records('Account')).keys()));
  const describe = await connection.describe('Account');
  assert.deepEqual(describe.fields.filter((f) => f.externalId).map((f) => f.name), ['Ext__c']);
  assert.ok((await connection.describeGlobal()).sobjects.some((o) => o.name === 'Opportunity'));
  const limits = await connection.limits();
  assert.equal(limits.DailyApiRequests.Max, connection.limitInfo.apiUsage.limit);
  assert.equal(limits.DailyApiRequests.Max - limits.DailyApiRequests.Remaining, connection.limitInfo.apiUsage.used);
  // It asks for compressed answers: all of this was read through gzip.
  const answers = (await control('GET', '/journal')).filter((entry) => entry.path.startsWith('/services/data') && entry.answer_bytes > 0);
  assert.ok(answers.length > 10 && answers.every((entry) => entry.answer_coding === 'gzip'));

  // A batch: each request by itself, halted behind the first that is refused, each of them counted.
  const calls = (await control('GET', '')).api_calls;
  const path = `v65.0/sobjects/Account/${made[0].id}`;
  const batch = await connection.requestPost('/composite/batch', { haltOnError: true, batchRequests: [
    { method: 'PATCH', url: path, richInput: { Name: 'Batched' } },
    { method: 'GET', url: `${path}?fields=Name` },
    { method: 'POST', url: 'v65.0/sobjects/Account', richInput: { Phone: '1' } },
    { method: 'GET', url: 'v65.0/limits' },
  ] });
  assert.deepEqual([batch.hasErrors, batch.results.map((r) => r.statusCode)], [true, [204, 200, 400, 412]]);
  assert.deepEqual([batch.results[0].result, batch.results[1].result.Name], [null, 'Batched']);
  assert.deepEqual(batch.results.slice(2).map((r) => r.result[0].errorCode), ['REQUIRED_FIELD_MISSING', 'BATCH_PROCESSING_HALTED']);
  assert.equal((await records('Account')).get(made[0].id).Name, 'Batched');
  assert.equal((await control('GET', '')).api_calls - calls, 3);
  const rest = await connection.requestPost('/composite/batch', { batchRequests: [
    { method: 'GET', url: 'v65.0/sobjects/Nothing/describe' }, { method: 'GET', url: `${path}?fields=Name` }] });
  assert.deepEqual([rest.hasErrors, rest.results.map((r) => r.statusCode)], [true, [404, 200]]);

  // A record that looks like another one: which one, with all its fields where that is asked, and saved where the client insists.
  await control('POST', '/rules', { duplicates: [{ object: 'Lead', fields: ['LastName', 'Company'], name: 'Leads_Twice' }] });
  const lead = { LastName: 'Lovelace', Company: 'Engines', Rating: 'Hot' };
  const known = await connection.sobject('Lead').create(lead);
  const twice = (options) => connection.sobject('Lead').create(lead, options).then(() => assert.fail('it was saved'), (error) => error);
  const refused = await twice({});
  assert.equal(refused.errorCode, 'DUPLICATES_DETECTED');
  const { allowSave, duplicateRule, matchResults: [match] } = refused.data.duplicateResult;
  assert.deepEqual([allowSave, duplicateRule, match.size, match.matchRecords[0].record.Id], [true, 'Leads_Twice', 1, known.id]);
  assert.equal(match.matchRecords[0].record.Rating, undefined);
  const detailed = await twice({ headers: { 'Sforce-Duplicate-Rule-Header': 'allowSave=false; includeRecordDetails=true' } });
  assert.equal(detailed.data.duplicateResult.matchResults[0].matchRecords[0].record.Rating, 'Hot');
  const [listed] = await connection.sobject('Lead').create([lead]);
  assert.equal(listed.errors[0].duplicateResult.matchResults[0].matchRecords[0].record.Id, known.id);
  const saved = await connection.sobject('Lead').create(lead, { headers: { 'Sforce-Duplicate-Rule-Header': 'allowSave=true' } });
  assert.deepEqual([...(await records('Lead')).keys()].sort(), [known.id, saved.id].sort());

  // Logins: client credentials, then a code with refresh tokens that rotate.
  const oauth2 = { loginUrl: HTTP, clientId: '3MVG9simulated.app', clientSecret: 'simulated-secret', redirectUri: 'http://localhost:1/callback' };
  const direct = new jsforce.Connection({ oauth2, version: '65.0', instanceUrl: HTTP });
  await direct.authorize({ grant_type: 'client_credentials' });
  assert.equal((await direct.query('SELECT COUNT() FROM Contact')).totalSize, 1);
  const page = new jsforce.OAuth2(oauth2).getAuthorizationUrl({ scope: 'api refresh_token', state: 'here' });
  const redirect = await fetch(page, { redirect: 'manual' });
  const location = new URL(redirect.headers.get('location'));
  assert.equal(location.searchParams.get('state'), 'here');
  const approved = new jsforce.Connection({ oauth2, version: '65.0', instanceUrl: HTTP });
  await approved.authorize(location.searchParams.get('code'));
  const first = approved.refreshToken;
  assert.ok(first);
  // The same with a proof key in place of the secret: another client's verifier is refused.
  const proving = new jsforce.OAuth2({ ...oauth2, clientSecret: undefined, useVerifier: true });
  const asked = await fetch(proving.getAuthorizationUrl({ scope: 'api refresh_token' }), { redirect: 'manual' });
  const brought = () => new URL(asked.headers.get('location')).searchParams.get('code');
  assert.ok((await proving.requestToken(brought())).refresh_token);
  await assert.rejects(proving.requestToken(brought()), /invalid authorization code/);
  const stranger = new jsforce.OAuth2({ ...oauth2, clientSecret: undefined, useVerifier: true });
  const again = await fetch(proving.getAuthorizationUrl({ scope: 'api' }), { redirect: 'manual' });
  await assert.rejects(stranger.requestToken(new URL(again.headers.get('location')).searchParams.get('code')), /invalid code verifier/);
  // The session ends in mid-run: the client refreshes and goes on.
  await control('DELETE', '/sessions');
  assert.equal((await approved.query('SELECT COUNT() FROM Contact')).totalSize, 1);

  // Trees: children know their parents, roots come first.
  const own_ids = ['a1', 'a2', 'c1', 'c2', 'o1'];
  const of = (type, referenceId, fields) => ({ attributes: { type, referenceId }, ...fields });
  const tree = await approved.requestPost('/composite/tree/Account', { records: [
    of('Account', 'a1', { Name: 'Root', Contacts: { records: [of('Contact', 'c1', { LastName: 'One' }), of('Contact', 'c2', { LastName: 'Two' })] },
      Opportunities: { records: [of('Opportunity', 'o1', { Name: 'Deal', StageName: 'Prospecting', CloseDate: '2030-01-01' })] } }),
    of('Account', 'a2', { Name: 'Alone' }),
  ] });
  assert.deepEqual([tree.hasErrors, tree.results.map((r) => r.referenceId)], [false, own_ids]);
  const [root, alone, leftLeaf, rightLeaf, deal] = tree.results.map((r) => r.id);
  const contacts = await records('Contact');
  assert.deepEqual([leftLeaf, rightLeaf].map((key) => contacts.get(key).AccountId), [root, root]);
  assert.equal((await records('Opportunity')).get(deal).AccountId, root);
  assert.equal((await records('Account')).get(alone).Name, 'Alone');
  await assert.rejects(new jsforce.OAuth2(oauth2).refreshToken(first), /expired access\/refresh token/);
}, 'jsforce: records agree');
