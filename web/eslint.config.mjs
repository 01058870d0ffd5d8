// Layers: main -> ui -> session -> wire. An arrow reads "may import"; the two lower ones are pure.
import tseslint from "typescript-eslint";

const layer = (files, forbidden, pure) => ({
  files: [`src/${files}`],
  rules: {
    "no-restricted-imports": [
      "error",
      {
        patterns: forbidden.map((name) => ({
          group: [`**/${name}`, `**/${name}/**`, `**/${name}.ts`],
          message: `Layers: main -> ui -> session -> wire; this file must not import ${name}.`,
        })),
      },
    ],
    ...(pure && {
      "no-restricted-globals": [
        "error",
        ...["window", "document", "navigator", "location", "fetch", "WebSocket", "crypto", "Date", "setTimeout",
          "setInterval", "console", "localStorage", "process"].map((name) => ({
          name,
          message: "This layer is pure: time, randomness and the network are handed in.",
        })),
      ],
      "no-restricted-properties": [
        "error",
        { object: "Math", property: "random", message: "This layer is pure: randomness is handed in." },
      ],
    }),
  },
});

export default tseslint.config(
  { ignores: ["dist/**", "node_modules/**"] },
  {
    files: ["src/**/*.ts", "tests/**/*.ts"],
    extends: [...tseslint.configs.strictTypeChecked, ...tseslint.configs.stylisticTypeChecked],
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      "no-console": "error",
      "max-lines": ["error", { max: 400, skipBlankLines: true }],
      "max-lines-per-function": ["error", { max: 60, skipBlankLines: true, skipComments: true }],
      "@typescript-eslint/restrict-template-expressions": ["error", { allowNumber: true }],
      "@typescript-eslint/switch-exhaustiveness-check": ["error", { considerDefaultExhaustiveForUnions: true }],
      // Characters of a message are code points, as the contract counts them; spreading a string counts just those.
      "@typescript-eslint/no-misused-spread": ["error", { allow: ["string"] }],
      "@typescript-eslint/consistent-type-imports": "error",
    },
  },
  {
    // node:test returns promises that its runner awaits by itself; a suite is one long function.
    files: ["tests/**/*.ts"],
    rules: { "@typescript-eslint/no-floating-promises": "off", "max-lines-per-function": "off" },
  },
  layer("wire/**/*.ts", ["session", "ui", "main"], true),
  layer("session/**/*.ts", ["ui", "main", "driver", "http"], true),
  layer("ui/**/*.ts", ["main", "driver", "http"], false),
);
