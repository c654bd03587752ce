// Asks for the API's token, once in each tab.
import { createSignal, type JSX, Show } from "solid-js";
import { login } from "../live";

export function Login(): JSX.Element {
  const [wrong, setWrong] = createSignal(false);
  let field!: HTMLInputElement;
  const submit = async (event: Event) => {
    event.preventDefault();
    setWrong(!(await login(field.value.trim())));
  };
  return (
    <form class="card login" onSubmit={submit}>
      <h1>Springtide</h1>
      <label for="token">Token</label>
      <input id="token" ref={field} type="password" autocomplete="current-password" autofocus />
      <button type="submit" class="primary">Enter</button>
      <Show when={wrong()}><p role="alert" class="bad">This token is wrong.</p></Show>
      <p class="quiet">It is in the server's data folder, file <code>api-token</code>.</p>
    </form>
  );
}
