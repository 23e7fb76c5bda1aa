// Drives a local Cloud Tasks server with Google's client for Node, and prints what it saw as JSON.
//
//     node check.mjs HOST:PORT APP_URL QUEUE

import {credentials} from '@grpc/grpc-js';
import {v2} from '@google-cloud/tasks';

const [address, appUrl, queue] = process.argv.slice(2);
const [host, port] = address.split(':');
const client = new v2.CloudTasksClient({
  apiEndpoint: host,
  port: Number(port),
  sslCreds: credentials.createInsecure(),
  projectId: 'test',
});
const parent = queue.slice(0, queue.indexOf('/queues/'));
const seen = {};

const name = `${parent}/queues/from-node`;
const [created] = await client.createQueue({parent, queue: {name, rateLimits: {maxDispatchesPerSecond: 20}}});
seen.created = created.rateLimits.maxDispatchesPerSecond;
const [updated] = await client.updateQueue({
  queue: {name, retryConfig: {maxAttempts: 7}},
  updateMask: {paths: ['retry_config.max_attempts']},
});
seen.updated = [updated.retryConfig.maxAttempts, updated.rateLimits.maxDispatchesPerSecond];
const [paused] = await client.pauseQueue({name});
seen.paused = paused.state;
const [queues] = await client.listQueues({parent, filter: 'state: PAUSED'});
seen.queues = queues.map(found => found.name);

const [task] = await client.createTask({
  parent: name,
  task: {
    name: `${name}/tasks/one`,
    appEngineHttpRequest: {relativeUri: '/one', body: Buffer.from('payload')},
  },
});
const [full] = await client.getTask({name: task.name, responseView: 'FULL'});
seen.body = full.appEngineHttpRequest.body.toString();
try {
  await client.createTask({parent: name, task: {name: task.name, httpRequest: {url: appUrl}}});
} catch (error) {
  seen.duplicate = error.code;
}
for (let number = 0; number < 5; number++) {
  const scheduleTime = {seconds: Math.floor(Date.now() / 1000) + 3600};
  await client.createTask({parent: name, task: {scheduleTime, httpRequest: {url: `${appUrl}/http`}}});
}
const [tasks] = await client.listTasks({parent: name, pageSize: 2});
seen.tasks = tasks.length;
const [ran] = await client.runTask({name: task.name});
seen.dispatchCount = ran.dispatchCount;
const http = tasks.find(found => found.httpRequest);
await client.deleteTask({name: http.name});
try {
  await client.getTask({name: http.name});
} catch (error) {
  seen.deleted = error.code;
}
const [resumed] = await client.resumeQueue({name});
seen.resumed = resumed.state;
await client.purgeQueue({name});
const [left] = await client.listTasks({parent: name});
seen.left = left.length;
const [policy] = await client.setIamPolicy({
  resource: name,
  policy: {bindings: [{role: 'roles/viewer', members: ['user:a@example.com']}]},
});
seen.members = policy.bindings[0].members;
await client.deleteQueue({name});
if (client.batchCreateTasks) {
  const request = {parent: queue, task: {httpRequest: {url: `${appUrl}/batch`}}};
  const [operation] = await client.batchCreateTasks({parent: queue, requests: [request, request]});
  const [response] = await operation.promise();
  seen.batch = response.tasks.length;
}
console.log(JSON.stringify(seen));
