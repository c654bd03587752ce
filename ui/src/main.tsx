// Starts the page.
import { render } from "solid-js/web";
import { App } from "./app";
import { connect } from "./live";
import "uplot/dist/uPlot.min.css";
import "./style.css";

connect();
render(() => <App />, document.getElementById("root")!);
