// Questions to the server, and its refusals in its own words.
// The token lives in this tab's storage, which belongs to this port alone: a cookie would go to every port of the host.

interface Problem {
  code: string;
  message: string;
}

const KEY = "springtide-token";

/** Keeps the token for this tab. */
export const setToken = (token: string) => (token ? sessionStorage.setItem(KEY, token) : sessionStorage.removeItem(KEY));

/** Headers that say who asks. */
export function who(): Record<string, string> {
  const token = sessionStorage.getItem(KEY);
  return token ? { authorization: `Bearer ${token}` } : {};
}

export async function get<T>(path: string): Promise<T> {
  return answer<T>(await fetch(path, { headers: { accept: "application/json", ...who() } }));
}

/** The same, with the answer's headers. */
export async function getWith<T>(path: string): Promise<[T, (header: string) => string | null]> {
  const response = await fetch(path, { headers: { accept: "application/json", ...who() } });
  return [await answer<T>(response), (header) => response.headers.get(header)];
}

/** A file of the server's as an address that an image or a new tab can show. */
export async function blobUrl(path: string): Promise<string> {
  const response = await fetch(path, { headers: who() });
  if (!response.ok) throw new Error(response.statusText);
  return URL.createObjectURL(await response.blob());
}

export async function post<T>(path: string, body?: unknown): Promise<T> {
  const headers = { "content-type": "application/json", ...who() };
  return answer<T>(await fetch(path, { method: "POST", headers, body: JSON.stringify(body ?? {}) }));
}

export async function del<T>(path: string): Promise<T> {
  return answer<T>(await fetch(path, { method: "DELETE", headers: who() }));
}

async function answer<T>(response: Response): Promise<T> {
  const text = await response.text();
  if (response.ok) return (text ? JSON.parse(text) : undefined) as T;
  let said: string;
  try {
    said = (JSON.parse(text) as Problem).message;
  } catch {
    said = text || response.statusText;
  }
  throw new Error(said);
}
