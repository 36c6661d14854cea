// OpenAI's own JavaScript package against a server: what it understood is printed as JSON.
import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.argv[2] + "/v1", apiKey: "none", maxRetries: 2 });
const messages = [{ role: "user", content: "two words" }];
const found = { models: [], text: "", chunks: 0, errors: [] };
for await (const model of await client.models.list()) found.models.push(model.id);
const { data, response } = await client.chat.completions.create({ model: "auto", messages }).withResponse();
found.answer = data.choices[0].message.content;
found.model = data.model;
found.header = response.headers.get("x-messctl-model");
found.cost = data.messctl.cost;
const stream = await client.chat.completions.create({
  model: "cheap", messages, stream: true, stream_options: { include_usage: true },
});
for await (const chunk of stream) {
  found.chunks += 1;
  found.text += chunk.choices[0]?.delta?.content ?? "";
  found.usage = chunk.usage ?? found.usage;
}
const runner = client.chat.completions.stream({ model: "cheap", messages });
found.accumulated = (await runner.finalChatCompletion()).choices[0].message.content;
for (const asked of [{ model: "nobody" }, { temperature: -1 }, { tools: [{ type: "function", function: { name: "f" } }] }]) {
  try {
    await client.chat.completions.create({ model: "auto", messages, ...asked });
  } catch (error) {
    found.errors.push([error.constructor.name, error.status, error.code]);
  }
}
console.log(JSON.stringify(found));
