// Asks for the API's token, once in each tab.
import { createSignal, type JSX, onMount, Show } from "solid-js";
import { login, refused } from "../live";

export function Login(): JSX.Element {
  const [wrong, setWrong] = createSignal(refused() === "wrong" ? "The token of this tab is not accepted any more: enter the new one." : "");
  const [busy, setBusy] = createSignal(false);
  let field!: HTMLInputElement;
  onMount(() => field.focus());
  const submit = async (event: Event) => {
    event.preventDefault();
    const token = field.value.trim();
    if (token === "") return setWrong("Enter a token first.");
    setBusy(true);
    setWrong(await login(token));
    setBusy(false);
    field?.select();
  };
  return (
    <form class="card login" onSubmit={submit}>
      <h1>Springtide</h1>
      <label for="token">Token</label>
      <input id="token" ref={field} type="password" autocomplete="current-password" aria-invalid={wrong() !== ""} aria-describedby="token-help" />
      <button type="submit" class="primary" disabled={busy()}>Enter</button>
      <Show when={wrong()}><p role="alert" class="bad">{wrong()}</p></Show>
      <p class="quiet" id="token-help">It is in the server's data folder, file <code>api-token</code>. This tab keeps it until it is closed.</p>
    </form>
  );
}
