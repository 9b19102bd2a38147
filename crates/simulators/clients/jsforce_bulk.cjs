// jsforce: Bulk API 2.0 both ways.
'use strict';

const zlib = require('node:zlib');
const jsforce = require('jsforce');
const { HTTP, assert, control, records, run, withExternalId } = require('./simulator.cjs');

run(async () => {
  await withExternalId();
  const session = await control('POST', '/session');
  const connection = new jsforce.Connection({ instanceUrl: HTTP, accessToken: session.access_token, version: '65.0' });
  connection.bulk2.pollInterval = 50;
  connection.bulk2.pollTimeout = 60000;

  const rows = Array.from({ length: 1200 }, (_, n) => ({ Name: `Load "${n}", and more`, Ext__c: `L${n}` }));
  const loaded = await connection.bulk2.loadAndWaitForResults({ object: 'Account', operation: 'insert', input: rows });
  assert.deepEqual([loaded.successfulResults.length, loaded.failedResults.length, loaded.unprocessedRecords.length], [1200, 0, 0]);
  const own = await records('Account');
  assert.equal(own.size, 1200);
  for (const result of loaded.successfulResults) {
    assert.deepEqual([own.get(result.sf__Id).Ext__c, own.get(result.sf__Id).Name], [result.Ext__c, result.Name]);
  }

  const mixed = await connection.bulk2.loadAndWaitForResults({ object: 'Account', operation: 'upsert', externalIdFieldName: 'Ext__c',
    input: [{ Ext__c: 'L0', Name: 'Zero' }, { Ext__c: 'L1', Name: 'x'.repeat(300) }] });
  assert.equal(mixed.successfulResults[0].sf__Created, 'false');
  assert.match(mixed.failedResults[0].sf__Error, /^STRING_TOO_LONG:/);

  // An upload that comes compressed.
  const job = connection.bulk2.createJob({ object: 'Account', operation: 'insert' });
  await job.open();
  const csv = ['Name,Ext__c', ...Array.from({ length: 300 }, (_, n) => `Packed ${n},P${n}`)].join('\n');
  await connection.request({ method: 'PUT', url: `/jobs/ingest/${job.id}/batches`, body: zlib.gzipSync(csv),
    headers: { 'content-type': 'text/csv', 'content-encoding': 'gzip' } });
  await job.close();
  await job.poll(50, 60000);
  assert.equal((await job.getSuccessfulResults()).length, 300);
  const packed = [...(await records('Account')).values()].filter((r) => r.Ext__c?.startsWith('P'));
  assert.ok(packed.length === 300 && packed.every((r) => r.Name === `Packed ${r.Ext__c.slice(1)}`));

  const stream = await connection.bulk2.query('SELECT Id, Name FROM Account');
  const read = await stream.toArray();
  const now = await records('Account');
  assert.deepEqual(new Map(read.map((r) => [r.Id, r.Name])), new Map([...now].map(([id, r]) => [id, r.Name])));

  const results = (await control('GET', '/journal')).filter((entry) => /\/results$|Results$/.test(entry.path));
  assert.ok(results.length > 3 && results.every((entry) => entry.answer_coding === 'gzip'), 'what a job gives comes compressed');

  await assert.rejects(connection.bulk2.loadAndWaitForResults({ object: 'Account', operation: 'insert', input: [{ Nope: 1 }] }), /Field name not found : Nope/);
}, 'jsforce: bulk agrees');
