// Questions to the server, and its refusals in its own words.

interface Problem {
  code: string;
  message: string;
}

export async function get<T>(path: string): Promise<T> {
  return answer<T>(await fetch(path, { headers: { accept: "application/json" } }));
}

export async function post<T>(path: string, body?: unknown): Promise<T> {
  const headers = { "content-type": "application/json" };
  return answer<T>(await fetch(path, { method: "POST", headers, body: JSON.stringify(body ?? {}) }));
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
