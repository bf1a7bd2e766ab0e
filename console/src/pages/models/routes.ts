import type { RouteObject } from "react-router";

import { lazyPage } from "../../app/lazyPage";

export const modelsRoutes: RouteObject[] = [
  { path: "models", lazy: lazyPage(() => import("./index")) },
  { path: "models/:name", lazy: lazyPage(() => import("./model")) },
];
