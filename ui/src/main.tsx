// Starts the page.
import { render } from "solid-js/web";
import { App } from "./app";
import { start } from "./live";
import "uplot/dist/uPlot.min.css";
import "./style.css";

render(() => <App />, document.getElementById("root")!);
start();
