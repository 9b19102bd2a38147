// salesforce-pubsub-api-client: managed event subscriptions, which jsforce makes; the org keeps how far they have got.
'use strict';

const jsforce = require('jsforce');
const { HTTP, assert, control, run } = require('./simulator.cjs');
const { connect, inbox, person, text } = require('./pubsub.cjs');

/** The simulator's own view of the one managed subscription, once it is as it should be. */
async function managed(holds) {
  for (;;) {
    const [one] = await control('GET', '/managed');
    if (holds(one)) return one;
    await new Promise((resolve) => { setTimeout(resolve, 20); });
  }
}

const create = (name) => person({ do: 'create', object: 'Account', fields: { Name: name } });

run(async () => {
  const admin = async () => {
    const session = await control('POST', '/session');
    return new jsforce.Connection({ instanceUrl: HTTP, accessToken: session.access_token, version: '65.0' }).tooling.sobject('ManagedEventSubscription');
  };
  const metadata = { label: 'Accounts', topicName: '/data/AccountChangeEvent', defaultReplay: 'LATEST', errorRecoveryReplay: 'EARLIEST', state: 'RUN' };
  const made = await (await admin()).create({ FullName: 'Accounts', Metadata: metadata });
  assert.match(made.id, /^18x.{15}$/);

  // By its name, from the newest on.
  await create('before');
  const first = await connect();
  const told = inbox();
  await first.subscribeWithManagedSubscription('Accounts', told.callback, 10);
  await managed((one) => one.active);
  for (const name of ['one', 'two', 'three']) await create(name);
  const events = [await told.event(), await told.event(), await told.event()];
  assert.deepEqual(events.map((event) => text(event.payload.Name)), ['one', 'two', 'three']);

  // Nobody else can have it meanwhile.
  const second = await connect();
  const turned = inbox();
  await second.subscribeWithManagedSubscription(made.id, turned.callback, 10);
  assert.equal((await turned.next()).type, 'error');

  // What is committed is kept.
  first.commitReplayId(made.id, events[1].replayId);
  await managed((one) => one.committed === events[1].replayId);

  // Stopped: the client is told, what was committed is forgotten, and nobody is let in.
  await (await admin()).update({ Id: made.id, Metadata: { state: 'STOP' } });
  assert.equal((await told.next()).type, 'error');
  assert.deepEqual(await managed((one) => !one.active).then((one) => [one.runs, one.committed]), [false, null]);
  await assert.rejects((await connect()).subscribeWithManagedSubscription('Accounts', inbox().callback, 10), /STOP state/);
}, 'salesforce-pubsub-api-client: managed subscriptions agree');
