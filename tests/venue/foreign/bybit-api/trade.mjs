// Trades on a venue with the unmodified client bybit-api and prints what it learned as one JSON document.
// Arguments: the REST URL, the URL of the private stream, the URL of the order-entry stream.

import { RestClientV5, WebsocketAPIClient, WebsocketClient } from "bybit-api";

const [restUrl, privateUrl, tradeUrl] = process.argv.slice(2);
const silent = { trace: () => {}, info: () => {}, error: () => {} };
const keys = { key: "key", secret: "secret" };
const rest = new RestClientV5({ ...keys, baseUrl: restUrl, throwExceptions: false });
const order = { category: "spot", symbol: "BTCUSDT", side: "Buy", orderType: "Limit", qty: "0.001", price: "59000" };
const named = { category: "spot", symbol: "BTCUSDT" };
const learned = {};

function deadline(promise, what) {
  const late = new Promise((_, reject) => {
    const timer = setTimeout(() => reject(new Error(`no ${what} within 10 s`)), 10_000);
    timer.unref();
  });
  return Promise.race([promise, late]);
}

async function overRest() {
  const codes = {};
  const ask = async (name, promise) => {
    const answer = await promise;
    codes[name] = answer.retCode;
    return answer.result;
  };
  await ask("time", rest.getServerTime());
  await ask("status", rest.getSystemStatus());
  await ask("instruments", rest.getInstrumentsInfo({ category: "spot" }));
  await ask("tickers", rest.getTickers({ category: "spot" }));
  await ask("book", rest.getOrderbook({ ...named, limit: 1000 }));
  learned.candles = (await ask("candles", rest.getKline({ ...named, interval: "60", limit: 300 }))).list.length;
  await ask("wallet", rest.getWalletBalance({ accountType: "UNIFIED" }));
  await ask("coins", rest.getCoinInfo());
  await ask("key", rest.getQueryApiKey());
  await ask("create", rest.submitOrder({ ...order, orderLinkId: "n-1" }));
  await ask("amend", rest.amendOrder({ ...named, orderLinkId: "n-1", qty: "0.002" }));
  const open = await ask("open", rest.getActiveOrders({ ...named, orderLinkId: "n-1" }));
  learned.open = open.list.map((row) => [row.orderLinkId, row.qty, row.orderStatus]);
  await ask("cancel", rest.cancelOrder({ ...named, orderLinkId: "n-1" }));
  const ended = await ask("history", rest.getHistoricOrders({ ...named, orderLinkId: "n-1" }));
  learned.ended = ended.list.map((row) => row.orderStatus);
  const { category: _, ...item } = order;
  const batch = await rest.batchSubmitOrders("spot", [item, { ...item, qty: "0" }]);
  learned.batch = batch.retExtInfo.list.map((verdict) => verdict.code);
  await ask("market", rest.submitOrder({ ...order, orderType: "Market", marketUnit: "baseCoin", orderLinkId: "n-2" }));
  learned.executions = (await ask("executions", rest.getExecutionList(named))).list.map((row) => row.execQty);
  await ask("protect", rest.setDisconnectCancelAllWindow("option", 40));
  await ask("protection", rest.getDCPInfo());
  learned.codes = codes;
  learned.refused = (await rest.submitOrder({ ...order, qty: "80" })).retCode;
}

async function overThePrivateStream() {
  const stream = new WebsocketClient({ ...keys, wsUrl: privateUrl, market: "v5" }, silent);
  const topics = new Set();
  const subscribed = new Promise((resolve) => stream.on("response", (answer) => answer.op === "subscribe" && resolve()));
  let found;
  const heard = new Promise((resolve) => (found = resolve));
  stream.on("update", (frame) => {
    topics.add(frame.topic);
    if (topics.size === 3) found();
  });
  stream.on("exception", () => {});
  stream.subscribeV5(["order", "execution", "wallet"], "spot");
  await deadline(subscribed, "subscription");
  await rest.submitOrder({ ...order, orderType: "Market", marketUnit: "baseCoin", orderLinkId: "n-3" });
  await deadline(heard, "frame of every topic");
  learned.topics = [...topics].sort();
  stream.closeAll(true);
}

async function overTheTradeStream() {
  const entry = new WebsocketAPIClient({ ...keys, wsUrl: tradeUrl, market: "v5" }, silent);
  const created = await deadline(entry.submitNewOrder({ ...order, orderLinkId: "n-4" }), "answer to a create");
  await deadline(entry.amendOrder({ ...named, orderLinkId: "n-4", price: "58000" }), "answer to an amend");
  const cancelled = await deadline(entry.cancelOrder({ ...named, orderLinkId: "n-4" }), "answer to a cancel");
  learned.entry = [created.retCode, created.data.orderLinkId, cancelled.op];
  entry.getWSClient().closeAll(true);
}

await overRest();
await overThePrivateStream();
await overTheTradeStream();
console.log(JSON.stringify(learned));
process.exit(0);
