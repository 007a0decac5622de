// The pages of Controllers.
import type { PageRoute } from "../../router";

export const routes: PageRoute[] = [{ path: "/controllers", load: () => import("./index") }];
