// Requests to the server. An answer that did not come has the status 0.

const TIMEOUT_MS = 20_000;

export async function post(url, fields, { leaving = false } = {}) {
  const body = new FormData();
  for (const [name, value] of fields) body.append(name, value);
  body.set("csrf_token", document.getElementById("review").dataset.token);
  return ask(url, { method: "POST", body, keepalive: leaving });
}

export async function get(url) {
  return ask(url, {});
}

async function ask(url, options) {
  try {
    const answer = await fetch(url, { ...options, signal: AbortSignal.timeout(TIMEOUT_MS) });
    const text = await answer.text();
    const json = answer.headers.get("Content-Type")?.startsWith("application/json");
    return { status: answer.redirected ? 401 : answer.status, data: json ? JSON.parse(text) : { problem: text.trim() } };
  } catch {
    return { status: 0, data: {} };
  }
}

// The session has ended (401), or another one has begun, to which this page's forms do not belong (400).
export const ended = (status) => status === 401 || status === 400;
// Not the form's fault: it may be sent again.
export const passing = (status) => status === 0 || status === 408 || status === 429 || status >= 500;
