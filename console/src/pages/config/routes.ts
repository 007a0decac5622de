import type { PageRoute } from "../../router";
import "./config.css";

export const routes: PageRoute[] = [{ path: "/config", load: () => import("./index") }];
