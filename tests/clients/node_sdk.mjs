// Sends batches with the SDK for Node: one JSON command a line in, one JSON answer a line out.
//
//   {"do": "uploadEvents", "body": BATCH}    or "bulkUploadEvents" with a list of batches
//
// A batch is {"fields": {...}, "events": [{"type": "AppEvent", "args": [...], "fields": {...}}, ...]}; values that are
// {"type": ...} are made with the SDK's own constructors, too. An answer is {"status": ..., "body": ..., "failed": ...}.
import { createInterface } from 'node:readline';
import mParticle from 'mparticle';

const [basePath, key, secret] = process.argv.slice(2);
const client = new mParticle.ApiClient();
client.basePath = basePath;
const api = new mParticle.EventsApi(new mParticle.Configuration(key, secret), client);

const isModel = (value) => value !== null && typeof value === 'object' && 'type' in value && 'args' in value;

function made(value) {
  if (Array.isArray(value)) return value.map(made);
  if (!isModel(value)) return value;
  const model = new mParticle[value.type](...value.args.map(made));
  for (const [name, field] of Object.entries(value.fields ?? {})) model[name] = made(field);
  return model;
}

function batch({ environment, fields, events }) {
  const model = new mParticle.Batch(mParticle.Batch.Environment[environment]);
  for (const [name, field] of Object.entries(fields)) model[name] = made(field);
  for (const event of events) model.addEvent(made(event));
  return model;
}

for await (const line of createInterface({ input: process.stdin })) {
  const { do: name, body } = JSON.parse(line);
  const answer = await new Promise((resolve) => {
    api[name](Array.isArray(body) ? body.map(batch) : batch(body), (error, _data, response) =>
      resolve({ failed: Boolean(error), status: (response ?? error.response)?.status ?? 0, body: error?.response?.body ?? null }),
    );
  });
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
