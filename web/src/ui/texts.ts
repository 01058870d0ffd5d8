/** Words on the page, in the languages it speaks. */

export interface Texts {
  readonly locale: string;
  readonly tagline: string;
  readonly signInWith: (provider: string) => string;
  readonly checking: string;
  readonly ssoUnavailable: string;
  readonly banned: string;
  readonly signOut: string;
  readonly rooms: string;
  readonly people: string;
  readonly messages: string;
  readonly online: string;
  readonly connecting: string;
  readonly reconnecting: string;
  readonly placeholder: (room: string) => string;
  readonly send: string;
  readonly sending: string;
  readonly failed: string;
  readonly retry: string;
  readonly discard: string;
  readonly older: string;
  readonly loading: string;
  readonly historyFailed: string;
  readonly empty: string;
  readonly newest: string;
  readonly today: string;
  readonly yesterday: string;
  readonly you: string;
  readonly tooLong: (over: number) => string;
  readonly queueFull: string;
  readonly logoutFailed: string;
  readonly roomGone: string;
  readonly said: (who: string, text: string) => string;
  readonly reasons: Readonly<Record<string, string>>;
}

const EN: Texts = {
  locale: "en",
  tagline: "Rooms to talk in, on your own server.",
  signInWith: (provider) => `Sign in with ${provider}`,
  checking: "One moment…",
  ssoUnavailable: "The sign-in service does not answer. Trying again…",
  banned: "This account may not enter this server. Ask its administrator.",
  signOut: "Sign out",
  rooms: "Rooms",
  people: "In the room",
  messages: "Messages",
  online: "Connected",
  connecting: "Connecting…",
  reconnecting: "Reconnecting…",
  placeholder: (room) => `Message to ${room}`,
  send: "Send",
  sending: "Sending…",
  failed: "Not sent.",
  retry: "Try again",
  discard: "Discard",
  older: "Show earlier messages",
  loading: "Loading…",
  historyFailed: "The messages could not be loaded.",
  empty: "Nothing has been said here yet. Say hello!",
  newest: "New messages ↓",
  today: "Today",
  yesterday: "Yesterday",
  you: "you",
  tooLong: (over) => `${over} too many characters`,
  queueFull: "Too many unsent messages. They go out as soon as the connection is back.",
  logoutFailed: "Signing out did not work. Check the connection and try again.",
  roomGone: "This room is gone.",
  said: (who, text) => `${who}: ${text}`,
  reasons: {
    RateLimited: "Too many messages at once.",
    ValidationError: "The server did not accept this text.",
    NoActiveRoom: "The room was being left.",
    IdempotencyConflict: "It was sent before with another text.",
    ServerError: "The server could not store it.",
  },
};

const RU: Texts = {
  locale: "ru",
  tagline: "Комнаты для разговоров на своём сервере.",
  signInWith: (provider) => `Войти через ${provider}`,
  checking: "Минутку…",
  ssoUnavailable: "Служба входа не отвечает. Пробуем ещё раз…",
  banned: "Этой учётной записи вход на сервер закрыт. Обратитесь к администратору.",
  signOut: "Выйти",
  rooms: "Комнаты",
  people: "В комнате",
  messages: "Сообщения",
  online: "На связи",
  connecting: "Соединяемся…",
  reconnecting: "Восстанавливаем связь…",
  placeholder: (room) => `Сообщение в ${room}`,
  send: "Отправить",
  sending: "Отправляется…",
  failed: "Не отправлено.",
  retry: "Повторить",
  discard: "Убрать",
  older: "Показать более ранние",
  loading: "Загружаем…",
  historyFailed: "Не удалось загрузить сообщения.",
  empty: "Здесь ещё ничего не сказано. Поздоровайтесь!",
  newest: "Новые сообщения ↓",
  today: "Сегодня",
  yesterday: "Вчера",
  you: "вы",
  tooLong: (over) => `Лишних символов: ${over}`,
  queueFull: "Слишком много неотправленных сообщений. Они уйдут, как только появится связь.",
  logoutFailed: "Выйти не удалось. Проверьте соединение и попробуйте ещё раз.",
  roomGone: "Этой комнаты больше нет.",
  said: (who, text) => `${who}: ${text}`,
  reasons: {
    RateLimited: "Слишком много сообщений сразу.",
    ValidationError: "Сервер не принял этот текст.",
    NoActiveRoom: "Комната как раз закрывалась.",
    IdempotencyConflict: "Оно уже уходило с другим текстом.",
    ServerError: "Сервер не смог его сохранить.",
  },
};

/** The first of the reader's languages that the page speaks; English otherwise. */
export function textsFor(languages: readonly string[]): Texts {
  const known: Record<string, Texts> = { en: EN, ru: RU };
  for (const language of languages) {
    const texts = known[language.slice(0, 2).toLowerCase()];
    if (texts !== undefined) return texts;
  }
  return EN;
}
