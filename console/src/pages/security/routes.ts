import type { PageRoute } from "../../router";
import "./security.css";

export const routes: PageRoute[] = [{ path: "/security", load: () => import("./index") }];
